package verify_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyraft/keyraft/tokens/verify"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const iat, exp = 1699999990, 1700000300
	tests := []struct {
		name   string
		change func(e *verify.Expect)
		member string
		want   error
	}{
		{name: "all as expected"},
		{name: "the last second within the skew", change: func(e *verify.Expect) { e.Now = exp + 59 }},
		{name: "expired with the skew", change: func(e *verify.Expect) { e.Now = exp + 60 }, want: verify.ErrExpired},
		{name: "expired without skew", change: func(e *verify.Expect) { e.Now, e.Skew = exp, -1 }, want: verify.ErrExpired},
		{name: "the last second without skew", change: func(e *verify.Expect) { e.Now, e.Skew = exp-1, -1 }},
		{name: "a skew of its own", change: func(e *verify.Expect) { e.Now, e.Skew = exp+4, 5 }},
		{name: "iat within the skew", change: func(e *verify.Expect) { e.Now = iat - 60 }},
		{name: "iat ahead", change: func(e *verify.Expect) { e.Now = iat - 61 }, want: verify.ErrNotYet},
		{name: "nbf within the skew", member: `"nbf":1700000060`},
		{name: "nbf ahead", member: `"nbf":1700000061`, want: verify.ErrNotYet},
		{name: "life within the bound", change: func(e *verify.Expect) { e.MaxLife = exp - iat }},
		{name: "a life longer than the bound", change: func(e *verify.Expect) { e.MaxLife = exp - iat - 1 }, want: verify.ErrLifetime},
		{name: "a life that lies ahead", change: func(e *verify.Expect) { e.MaxLife, e.Skew, e.Now = exp-iat, 20, iat-20 }},
		{name: "another type", change: func(e *verify.Expect) { e.Type = "dpop+jwt" }, want: verify.ErrType},
		{name: "another issuer", change: func(e *verify.Expect) { e.Issuer = "https://other.example" }, want: verify.ErrIssuer},
		{name: "another audience", change: func(e *verify.Expect) { e.Audience = []string{"https://api.example/"} }, want: verify.ErrAudience},
		{name: "nothing demanded but time", change: func(e *verify.Expect) { *e = verify.Expect{Now: testNow} }},
		{name: "nothing demanded and expired", change: func(e *verify.Expect) { *e = verify.Expect{Now: 2 * testNow} }, want: verify.ErrExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			payload := testPayload
			if tt.member != "" {
				payload = strings.TrimSuffix(payload, "}") + "," + tt.member + "}"
			}
			token, err := verify.Parse(mint(t, verify.EdDSA, header(verify.EdDSA), payload))
			if err != nil {
				t.Fatal(err)
			}
			e := expect()
			if tt.change != nil {
				tt.change(&e)
			}
			if err := token.Check(e); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// TestAssertionLifeIsBoundedWithoutIat: iat is optional in RFC 7523, so exp is held
// against the clock too; a jti is remembered no longer than that.
func TestAssertionLifeIsBoundedWithoutIat(t *testing.T) {
	t.Parallel()
	for exp, want := range map[string]error{"1700003660": nil, "1700003661": verify.ErrLifetime, "8589934592": verify.ErrLifetime} {
		token, err := verify.Parse(mint(t, verify.ES256, `{"alg":"ES256"}`, `{"iss":"c","sub":"c","aud":"https://as.example","jti":"1","exp":`+exp+`}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Check(verify.Expect{Audience: []string{"https://as.example"}, Now: testNow, MaxLife: 3600}); !errors.Is(err, want) {
			t.Errorf("exp %s: error %v, want %v", exp, err, want)
		}
		if c := token.Claims; c.Issuer != "c" || c.Subject != "c" || c.JTI != "1" || !strings.Contains(c.Raw, `"jti":"1"`) {
			t.Errorf("claims %+v", c)
		}
	}
}
