package oauth_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/internal/oauth"
)

func TestErrorAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		err    *oauth.Error
		code   oauth.Code
		status int
		text   string
	}{
		{"most codes are 400 (RFC 6749 §5.2)", oauth.InvalidGrant.With("the code was used; start again"), oauth.InvalidGrant, 400, "invalid_grant: the code was used; start again"},
		{"a client that cannot prove itself is 401", oauth.InvalidClient.With(""), oauth.InvalidClient, 401, "invalid_client"},
		{"a refused bearer token is 401 (RFC 6750 §3.1)", oauth.InvalidToken.With("x"), oauth.InvalidToken, 401, "invalid_token: x"},
		{"a token without the scope is 403", oauth.InsufficientScope.With("x"), oauth.InsufficientScope, 403, "insufficient_scope: x"},
		{"an unknown outcome is 503", oauth.OutcomeUnknown.With("x"), oauth.OutcomeUnknown, 503, "outcome_unknown: x"},
		{"an overloaded node is 503", oauth.TemporarilyUnavailable.With("x"), oauth.TemporarilyUnavailable, 503, "temporarily_unavailable: x"},
		{"our own fault is 500", oauth.ServerError.With("x"), oauth.ServerError, 500, "server_error: x"},
		{"a status that was set wins", oauth.InvalidRequest.With("x").WithStatus(413), oauth.InvalidRequest, 413, "invalid_request: x"},
		{"a status that is no error is ignored", oauth.InvalidRequest.With("x").WithStatus(200), oauth.InvalidRequest, 400, "invalid_request: x"},
		{"quotes, backslashes and line ends cannot leave the description", oauth.InvalidScope.Withf("%s", "a\"b\\c\r\nd\x00é"), oauth.InvalidScope, 400, "invalid_scope: a'b'c??d??"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wrapped := fmt.Errorf("authorize: %w", tt.err)
			if !errors.Is(wrapped, tt.code) {
				t.Errorf("errors.Is(%v, %v) is false", wrapped, tt.code)
			}
			var found *oauth.Error
			if !errors.As(wrapped, &found) || found != tt.err {
				t.Error("errors.As does not find the error")
			}
			if got := tt.err.Status(); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if got := tt.err.Error(); got != tt.text {
				t.Errorf("text %q, want %q", got, tt.text)
			}
			if tt.err.Code() != tt.code {
				t.Errorf("code %q, want %q", tt.err.Code(), tt.code)
			}
		})
	}
}

func TestWithCopies(t *testing.T) {
	t.Parallel()
	first := oauth.UseDPoPNonce.With("use the nonce")
	second := first.WithRetryAfter(3).WithChallenge("DPoP error=\"use_dpop_nonce\"\r\nX: y").WithStatus(401)
	if first.RetryAfter() != 0 || first.Challenge() != "" || first.Status() != 400 {
		t.Errorf("a With method changed its receiver: %+v", first)
	}
	if second.RetryAfter() != 3 || second.Status() != 401 {
		t.Errorf("a With method lost its value: %+v", second)
	}
	if got, want := second.Challenge(), `DPoP error="use_dpop_nonce"X: y`; got != want {
		t.Errorf("challenge %q, want %q", got, want)
	}
	if got := first.WithRetryAfter(-1).RetryAfter(); got != 0 {
		t.Errorf("a negative Retry-After became %d", got)
	}
}

func TestDescriptionIsBounded(t *testing.T) {
	t.Parallel()
	if got := len(oauth.InvalidRequest.With(strings.Repeat("a", 1<<20)).Description()); got > 400 {
		t.Errorf("description of %d bytes", got)
	}
}

func TestSplitScope(t *testing.T) {
	t.Parallel()
	many := make([]string, 257)
	for i := range many {
		many[i] = fmt.Sprintf("s%d", i)
	}
	tests := []struct {
		name, in string
		want     []string
		fails    bool
	}{
		{name: "nothing gives nothing"},
		{name: "order is kept", in: "write read", want: []string{"write", "read"}},
		{name: "a repeated scope counts once", in: "a b a a", want: []string{"a", "b"}},
		{name: "letter case counts", in: "A a", want: []string{"A", "a"}},
		{name: "every character of RFC 6749 §3.3 may stand in a scope", in: "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", want: []string{"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"}},
		{name: "a double space is refused", in: "a  b", fails: true},
		{name: "a leading space is refused", in: " a", fails: true},
		{name: "a trailing space is refused", in: "a ", fails: true},
		{name: "a tab is refused", in: "a\tb", fails: true},
		{name: "a double quote is refused", in: `a"b`, fails: true},
		{name: "a backslash is refused", in: `a\b`, fails: true},
		{name: "a letter outside ASCII is refused", in: "é", fails: true},
		{name: "more than 256 scopes are refused", in: strings.Join(many, " "), fails: true},
		{name: "256 scopes pass", in: strings.Join(many[:256], " "), want: many[:256]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := oauth.SplitScope(tt.in)
			if tt.fails != errors.Is(err, oauth.InvalidScope) {
				t.Fatalf("error %v, want one: %v", err, tt.fails)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("scopes %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzSplitScope(f *testing.F) {
	f.Add("read write")
	f.Add(" a  b\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		items, err := oauth.SplitScope(s)
		if err != nil {
			return
		}
		for _, item := range items {
			if !oauth.ValidScope(item) {
				t.Errorf("SplitScope(%q) gave %q, which is no scope", s, item)
			}
		}
		if again, err := oauth.SplitScope(strings.Join(items, " ")); err != nil || !slices.Equal(again, items) {
			t.Errorf("SplitScope is not stable for %q: %q, %v", s, again, err)
		}
	})
}

// TestBEA05DescriptionsCannotLeaveTheirQuotes: what a rule says of a request stands in a
// challenge as it is, so it holds no quote, no backslash and no end of a line.
func TestBEA05DescriptionsCannotLeaveTheirQuotes(t *testing.T) {
	t.Parallel()
	const hostile = "a\" , scope=\"b\\\r\nSet-Cookie: x=y\x00\x7fé"
	if d := oauth.InvalidToken.With(hostile).Description(); strings.ContainsAny(d, "\"\\\r\n\x00\x7fé") || !strings.Contains(d, "Set-Cookie") {
		t.Errorf("description %q", d)
	}
	if d := oauth.InvalidToken.Withf("the scope %s", hostile).Description(); strings.ContainsAny(d, "\"\\\r\n\x00\x7fé") {
		t.Errorf("description %q", d)
	}
	if c := oauth.InvalidToken.With("x").WithChallenge("Bearer realm=\"" + hostile).Challenge(); strings.ContainsAny(c, "\r\n\x00\x7fé") {
		t.Errorf("challenge %q", c)
	}
}
