package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyraft/keyraft/cluster/ca"
	"github.com/keyraft/keyraft/internal/config"
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

// errOtherCluster says that --join names a member of another cluster than the one
// that made the join token.
var errOtherCluster = errors.New("the join token was made by another cluster than the one that --join names")

// checkJoin refuses a join token that the member at --join knows nothing of (E1);
// key is the setting that gave it. A member that doesn't answer says nothing against the token.
func checkJoin(ctx context.Context, api, key, token string) error {
	t, err := ca.ParseJoinToken(token)
	if err != nil {
		return config.NewError(key, err.Error(), "make one at a member with 'keyraft operator join-token'")
	}
	if _, err := findMember(api)(ctx, t.Fingerprint); errors.Is(err, errOtherCluster) {
		return config.NewError(key, err.Error(), "make a token at a member of that cluster, or correct --join")
	}
	return nil
}

func askPort(ctx context.Context, client *http.Client, at string) (string, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	a, err := client.Do(q)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text repeats the URL
		}
		return "", err
	}
	defer func() { _ = a.Body.Close() }()
	var out struct {
		ClusterAddr string `json:"cluster_addr"`
		Code        string `json:"code"`
		Detail      string `json:"detail"`
	}
	err = json.NewDecoder(io.LimitReader(a.Body, 4<<10)).Decode(&out)
	switch {
	case err == nil && out.Code == "other_cluster":
		return "", fmt.Errorf("%w: %s", errOtherCluster, out.Detail)
	case a.StatusCode != http.StatusOK:
		return "", fmt.Errorf("it answered %s: is it a Keyraft node?", a.Status)
	case err != nil || out.ClusterAddr == "":
		return "", errors.New("its answer is not understood: is it a Keyraft node?")
	}
	return out.ClusterAddr, nil
}
