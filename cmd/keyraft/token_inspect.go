package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/tokens/verify"
)

// inspection is what can be said of a token without asking anybody, and about
// its signature when keys are at hand.
type inspection struct {
	Header   json.RawMessage `json:"header"`
	Payload  json.RawMessage `json:"payload"`
	Verified bool            `json:"verified"`
	Verdict  string          `json:"verdict"`
	Times    string          `json:"times,omitempty"` // "valid for 5m0s", "expired 5m0s ago"
	expired  bool
}

// newTokenInspect builds "keyraft token inspect".
func newTokenInspect(c console, dial dialer) *cobra.Command {
	var jwks string
	cmd := &cobra.Command{
		Use:   "inspect [TOKEN]",
		Short: "Decode a JWT here, without asking a node",
		Long: `Decode a JWT here. Nothing is sent, and nothing in the token is proved, unless the keys
are named: --jwks with a file or a URL, or --addr with a node. Then the signature is
checked, and the exit code is 1 when it is wrong or the token is not valid now. Whether
a token was revoked only a node knows: keyraft token introspect.`,
		Example: "  keyraft token inspect \"$TOKEN\"\n  keyraft token inspect \"$TOKEN\" --jwks jwks.json\n" +
			"  keyraft token inspect --addr http://127.0.0.1:9763 - < token",
		Args: named("[TOKEN]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := tokenArgument(c, args)
			if err != nil {
				return err
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			seen, parsed, err := decodeToken(token, time.Now())
			if err != nil {
				return err
			}
			asked := jwks != "" || cmd.Flags().Changed("addr")
			if asked {
				keys, err := readKeys(cmd.Context(), api, jwks)
				if err != nil {
					return err
				}
				seen.check(parsed, keys)
			}
			if err := seen.print(api.out); err != nil {
				return err
			}
			if asked && (!seen.Verified || seen.expired) {
				return silentError(1) // the verdict says why
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&jwks, "jwks", "", "file or URL of the keys that the signature is checked with")
	return cmd
}

// decodeToken reads the two JSON parts of a JWT. The strict parser's opinion is
// part of the verdict, but a token that it refuses is shown as far as it goes:
// that is what one inspects tokens for.
func decodeToken(token string, now time.Time) (*inspection, *verify.Token, error) {
	parts := strings.Split(token, ".")
	switch {
	case len(parts) == 1:
		return nil, nil, errors.New("this is no JWT; an opaque token says nothing by itself, ask a node: keyraft token introspect")
	case len(parts) == 5:
		return nil, nil, errors.New("this is an encrypted JWT, which only its audience can read")
	case len(parts) != 3:
		return nil, nil, fmt.Errorf("this is no JWT: it has %d parts between dots in place of 3; copy it whole", len(parts))
	}
	var seen inspection
	for i, part := range []*json.RawMessage{&seen.Header, &seen.Payload} {
		text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[i], "="))
		if err != nil || !json.Valid(text) {
			return nil, nil, fmt.Errorf("this is no JWT: its %s is not JSON in base64url; copy it whole", [2]string{"header", "payload"}[i])
		}
		*part = text
	}
	parsed, err := verify.Parse(token)
	seen.Verdict = "NOT verified: anybody could have written this; give --jwks or --addr to check the signature"
	if err != nil {
		seen.Verdict = "NOT verified, and Keyraft refuses it: " + err.Error()
	}
	seen.times(now)
	return &seen, parsed, nil
}

// times says whether the token would be valid now.
func (s *inspection) times(now time.Time) {
	var claims struct {
		Exp, Nbf json.Number
	}
	if json.Unmarshal(s.Payload, &claims) != nil {
		return
	}
	if at, ok := unixTime(claims.Nbf); ok && now.Before(at) {
		s.Times, s.expired = "not valid before "+at.Format(time.RFC3339), true
		return
	}
	at, ok := unixTime(claims.Exp)
	switch {
	case !ok:
		s.Times, s.expired = "has no expiry, so Keyraft refuses it", true
	case now.Before(at):
		s.Times = "valid for " + at.Sub(now).Round(time.Second).String()
	default:
		s.Times, s.expired = "EXPIRED "+now.Sub(at).Round(time.Second).String()+" ago", true
	}
}

func unixTime(n json.Number) (time.Time, bool) {
	f, err := n.Float64()
	if err != nil || f <= 0 || f > 253402300799 { // year 9999
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0).UTC(), true
}

// check verifies the signature with the key that the header names.
func (s *inspection) check(parsed *verify.Token, keys *verify.KeySet) {
	if parsed == nil {
		return // the verdict says why it is refused
	}
	key, ok := keys.Lookup(parsed.Header.KeyID)
	if !ok {
		s.Verdict = fmt.Sprintf("NOT verified: none of the %d keys has the kid %q", keys.Len(), parsed.Header.KeyID)
		return
	}
	if err := parsed.Verify(key); err != nil {
		s.Verdict = "NOT verified: " + err.Error()
		return
	}
	s.Verified = true
	s.Verdict = "signature verified with key " + key.ID + "; whether it was revoked only a node knows"
}

// readKeys reads a JWKS from a file, a URL or, for neither, the node.
func readKeys(ctx context.Context, a *api, place string) (*verify.KeySet, error) {
	var text []byte
	var err error
	switch {
	case place == "":
		text, err = a.call(ctx, request{method: http.MethodGet, path: "/oauth2/jwks", basic: true})
		place = a.node
	case strings.HasPrefix(place, "http://"), strings.HasPrefix(place, "https://"):
		text, err = a.fetch(ctx, place)
	default:
		text, err = readLimited(place, 1<<20)
	}
	if err != nil {
		return nil, err
	}
	keys, err := verify.ParseJWKS(text)
	if err != nil {
		return nil, fmt.Errorf("the keys of %s: %w", place, err)
	}
	set, err := verify.NewKeySet(keys)
	if err != nil {
		return nil, fmt.Errorf("the keys of %s: %w", place, err)
	}
	return set, nil
}

// fetch gets JSON from a URL that is not the node's: no token goes there.
func (a *api) fetch(ctx context.Context, place string) ([]byte, error) {
	u, err := url.Parse(place)
	if err != nil || u.Host == "" {
		return nil, usagef("--jwks %q is neither a file nor a URL", place)
	}
	other := *a
	other.node = u.Scheme + "://" + u.Host
	other.base, other.token = other.node, secret{}
	return other.call(ctx, request{method: http.MethodGet, path: u.RequestURI(), basic: true})
}

func (s *inspection) print(out printer) error {
	if out.json {
		return out.value(s)
	}
	if err := out.write(oneLine(s.Verdict) + "\n"); err != nil {
		return err
	}
	if s.Times != "" {
		if err := out.write(oneLine(s.Times) + "\n"); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"header", s.Header}, {"payload", s.Payload}} {
		if err := out.write("\n" + part.name + "\n"); err != nil {
			return err
		}
		if err := out.object(part.text); err != nil {
			return err
		}
	}
	return nil
}
