package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// findTime bounds the question where a member's cluster port is.
const findTime = 5 * time.Second

// findMember asks the member at the API address of --join where its cluster port
// is. The certificate of that API is not verified: the answer is a place to try,
// and whoever answers there must show the authority that the join token names.
func findMember(api string) func(ctx context.Context, fingerprint [32]byte) (string, error) {
	schemes := []string{""}
	if !strings.Contains(api, "://") {
		schemes = []string{"http://", "https://"}
	}
	client := &http.Client{
		Timeout:       findTime,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, fingerprint [32]byte) (addr string, err error) {
		for _, scheme := range schemes {
			at := scheme + strings.TrimSuffix(api, "/") + "/cluster/v1/port?ca=" + hex.EncodeToString(fingerprint[:])
			if addr, err = askPort(ctx, client, at); err == nil {
				return addr, nil
			}
		}
		return "", fmt.Errorf("ask %s where its cluster port is: %w", api, err)
	}
}

func askPort(ctx context.Context, client *http.Client, at string) (string, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	a, err := client.Do(q)
	if err != nil {
		return "", err
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it answered %s: is it a member of the cluster that made the join token?", a.Status)
	}
	var out struct {
		ClusterAddr string `json:"cluster_addr"`
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, 4<<10)).Decode(&out); err != nil || out.ClusterAddr == "" {
		return "", fmt.Errorf("its answer is not understood")
	}
	return out.ClusterAddr, nil
}
