package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

// series are a node's metrics: name with labels, as it writes them, and value.
type series map[string]float64

// scrape reads a node's metrics.
func scrape(ctx context.Context, n *proc.Node) (_ series, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, errors.Join(err, fmt.Errorf("the metrics of %s: status %d", n.Name, resp.StatusCode))
	}
	return parseSeries(text), nil
}

// parseSeries reads the text format of Prometheus, without what is no number.
func parseSeries(text []byte) series {
	s := series{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		at := bytes.LastIndexByte(line, ' ')
		if at <= 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(string(line[at+1:]), 64); err == nil {
			s[string(line[:at])] = v
		}
	}
	return s
}

// bucket is one of a histogram: how many were at most so much.
type bucket struct{ most, count float64 }

// since is a histogram's buckets, of what came after before.
func (s series) since(before series, name string) (out []bucket) {
	for key, count := range s {
		label, found := strings.CutPrefix(key, name+`_bucket{le="`)
		if !found {
			continue
		}
		most, err := strconv.ParseFloat(strings.TrimSuffix(label, `"}`), 64)
		if err == nil && !math.IsNaN(most) {
			out = append(out, bucket{most, count - before[key]})
		}
	}
	slices.SortFunc(out, func(a, b bucket) int {
		if a.most < b.most {
			return -1
		}
		return 1
	})
	return out
}

// quantile is the value that a share of what was counted lies below, evenly within its
// bucket as Prometheus has it; 0 when nothing was counted.
func quantile(buckets []bucket, share float64) float64 {
	if len(buckets) == 0 {
		return 0
	}
	rank := share * buckets[len(buckets)-1].count
	var below bucket
	for _, b := range buckets {
		if b.count >= rank && b.count > below.count {
			if math.IsInf(b.most, 1) {
				return below.most
			}
			return below.most + (b.most-below.most)*(rank-below.count)/(b.count-below.count)
		}
		below = b
	}
	return 0
}
