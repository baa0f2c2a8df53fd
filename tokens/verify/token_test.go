package verify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyraft/keyraft/tokens/verify"
)

func TestGoodTokensOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range algs {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			got, err := accept(good(t, alg), key(alg))
			if err != nil {
				t.Fatal(err)
			}
			want := verify.Claims{
				Type: "at+jwt", Alg: alg, KeyID: "k1", Issuer: "https://as.example", Subject: "alice", ClientID: "orders",
				JTI: "n1-b2-3", Audience: []string{"https://api.example"}, Scope: "read write", IssuedAt: 1699999990, Expires: 1700000300,
				Own: true, Epoch: 3, Head: 41, Grant: "g7", Root: "r1", Application: "shop", Raw: testPayload,
			}
			if c := exported(got.Claims); !reflect.DeepEqual(c, want) {
				t.Errorf("claims %+v\nwant %+v", c, want)
			}
			if got.Header != (verify.Header{Alg: alg, Type: "at+jwt", KeyID: "k1"}) {
				t.Errorf("header %+v", got.Header)
			}
		})
	}
}

// exported drops what a Claims literal outside the package cannot set.
func exported(c verify.Claims) (out verify.Claims) {
	from, to := reflect.ValueOf(c), reflect.ValueOf(&out).Elem()
	for i := range to.NumField() {
		if to.Field(i).CanSet() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return out
}

// TestRefusedForms signs each bad text with the right key: only its form is wrong.
func TestRefusedForms(t *testing.T) {
	t.Parallel()
	claims := func(member string) string { return strings.TrimSuffix(testPayload, "}") + "," + member + "}" }
	without := func(cut, put string) string {
		s := strings.Replace(testPayload, cut, put, 1)
		if s == testPayload {
			t.Fatalf("%q is not in the payload", cut)
		}
		return s
	}
	h := header(verify.ES256)
	head := func(member string) string { return strings.TrimSuffix(h, "}") + "," + member + "}" }
	deep := func(n int) string { return `"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	tests := []struct{ name, header, payload string }{
		{"JWT-01 alg none", header("none"), testPayload},
		{"JWT-01 alg None", header("None"), testPayload},
		{"JWT-01 alg missing", `{"typ":"at+jwt","kid":"k1"}`, testPayload},
		{"JWT-01 alg empty", header(""), testPayload},
		{"JWT-01 alg an array", `{"alg":["ES256"],"kid":"k1"}`, testPayload},
		{"JWT-01 alg a number", `{"alg":256,"kid":"k1"}`, testPayload},
		{"JWT-02 alg HS256", header("HS256"), testPayload},
		{"JWT-05 kid a number", `{"alg":"ES256","kid":1}`, testPayload},
		{"JWT-05 kid with a NUL", `{"alg":"ES256","kid":"k1\u0000"}`, testPayload},
		{"JWT-06 crit with b64", head(`"crit":["b64"],"b64":false`), testPayload},
		{"JWT-06 crit unknown", head(`"crit":["x"],"x":1`), testPayload},
		{"JWT-06 crit empty", head(`"crit":[]`), testPayload},
		{"JWT-06 b64 true", head(`"b64":true`), testPayload},
		{"JWT-07 alg twice", head(`"alg":"ES256"`), testPayload},
		{"JWT-07 ALG", head(`"ALG":"none"`), testPayload},
		{"JWT-07 unknown header member twice", head(`"x":1,"x":1`), testPayload},
		{"JWT-07 sub twice", h, claims(`"sub":"admin"`)},
		{"JWT-07 sub twice, once escaped", h, claims(`"s\u0075b":"admin"`)},
		{"JWT-07 Sub", h, claims(`"Sub":"admin"`)},
		{"JWT-07 Sub by escape", h, claims(`"\u0053ub":"admin"`)},
		{"JWT-07 ſub, which folds to sub", h, claims(`"ſub":"admin"`)},
		{"JWT-07 custom member twice", h, claims(`"x":1,"x":2`)},
		{"JWT-07 duplicate in depth", h, claims(`"x":[{"y":{"z":1,"z":2}}]`)},
		{"JWT-07 duplicate in cnf", h, claims(`"cnf":{"jkt":"a","jkt":"b"}`)},
		{"JWT-09 payload not UTF-8", h, claims("\"x\":\"\xff\"")},
		{"JWT-09 overlong UTF-8", h, claims("\"x\":\"\xc0\xaf\"")},
		{"JWT-09 BOM", h, "\ufeff" + testPayload},
		{"JWT-09 BOM in the header", "\ufeff" + h, testPayload},
		{"JWT-09 bytes after the JSON", h, testPayload + "x"},
		{"JWT-09 two objects", h, testPayload + testPayload},
		{"JWT-09 NUL after the header", h + "\x00", testPayload},
		{"JWT-09 top level array", h, "[" + testPayload + "]"},
		{"JWT-09 top level string", h, `"x"`},
		{"JWT-09 empty object header", "{}", testPayload},
		{"JWT-09 no JSON", h, "sub=alice"},
		{"JWT-10 nested seventeen deep", h, claims(deep(16))},
		{"JWT-10 nested 5000 deep", h, claims(deep(5000))},
		{"JWT-10 unclosed nesting", h, claims(`"x":` + strings.Repeat("[", 5000))},
		{"JWT-10 100 000 digits", h, claims(`"x":` + strings.Repeat("9", 100_000))},
		{"JWT-10 65 digits", h, claims(`"x":` + strings.Repeat("9", 65))},
		{"JWT-10 1e400", h, claims(`"x":1e400`)},
		{"JWT-10 1000 claims", h, claims(manyMembers(1000))},
		{"JWT-10 string of 900 KiB", h, claims(`"x":"` + strings.Repeat("a", 900<<10) + `"`)},
		{"JWT-11 exp a string", h, without(`"exp":1700000300`, `"exp":"1700000300"`)},
		{"JWT-11 exp a fraction", h, without(`"exp":1700000300`, `"exp":1700000300.5`)},
		{"JWT-11 exp whole but with a point", h, without(`"exp":1700000300`, `"exp":1700000300.0`)},
		{"JWT-11 exp with an exponent", h, without(`"exp":1700000300`, `"exp":17e8`)},
		{"JWT-11 exp 1e20", h, without(`"exp":1700000300`, `"exp":1e20`)},
		{"JWT-11 exp negative", h, without(`"exp":1700000300`, `"exp":-1`)},
		{"JWT-11 exp minus zero", h, without(`"exp":1700000300`, `"exp":-0`)},
		{"JWT-11 exp NaN", h, without(`"exp":1700000300`, `"exp":NaN`)},
		{"JWT-11 exp null", h, without(`"exp":1700000300`, `"exp":null`)},
		{"JWT-11 exp 2^63", h, without(`"exp":1700000300`, `"exp":9223372036854775808`)},
		{"JWT-11 exp 2^64 and some", h, without(`"exp":1700000300`, `"exp":18446744075409551916`)},
		{"JWT-11 exp in the year 9999", h, without(`"exp":1700000300`, `"exp":253402300799`)},
		{"JWT-11 exp missing", h, without(`"exp":1700000300,`, ``)},
		{"JWT-11 exp zero", h, without(`"exp":1700000300`, `"exp":0`)},
		{"JWT-11 exp with a leading zero", h, without(`"exp":1700000300`, `"exp":01700000300`)},
		{"JWT-11 nbf true", h, claims(`"nbf":true`)},
		{"JWT-11 iat an object", h, without(`"iat":1699999990`, `"iat":{}`)},
		{"JWT-11 iat far ahead", h, without(`"iat":1699999990`, `"iat":1700000061`)},
		{"JWT-24 an ID token's typ", `{"alg":"ES256","typ":"JWT","kid":"k1"}`, testPayload},
		{"JWT-24 no typ", `{"alg":"ES256","kid":"k1"}`, testPayload},
		{"JWT-24 typ with at+jwt at its end", `{"alg":"ES256","typ":"xat+jwt","kid":"k1"}`, testPayload},
		{"JWT-24 typ with another prefix", `{"alg":"ES256","typ":"applicatiom/at+jwt","kid":"k1"}`, testPayload},
		{"JWT-25 iss with a slash", h, without(`as.example"`, `as.example/"`)},
		{"JWT-25 iss in capitals", h, without(`https://as`, `HTTPS://as`)},
		{"JWT-25 iss with the default port", h, without(`as.example"`, `as.example:443"`)},
		{"JWT-25 iss missing", h, without(`"iss":"https://as.example",`, ``)},
		{"JWT-26 aud missing", h, without(`"aud":"https://api.example",`, ``)},
		{"JWT-26 aud empty", h, without(`"https://api.example"`, `[]`)},
		{"JWT-26 aud with null", h, without(`"https://api.example"`, `["https://api.example",null]`)},
		{"JWT-26 aud nested", h, without(`"https://api.example"`, `[["https://api.example"]]`)},
		{"JWT-26 aud with 1000 values", h, without(`"https://api.example"`, `[`+many(999, `"a"`)+`,"https://api.example"]`)},
		{"JWT-26 aud longer than ours", h, without(`api.example"`, `api.example.evil"`)},
		{"JWT-26 aud shorter than ours", h, without(`api.example"`, `api"`)},
		{"JWT-26 aud an object", h, without(`"https://api.example"`, `{"https://api.example":1}`)},
		{"sub empty", h, without(`"alice"`, `""`)},
		{"sub a number", h, without(`"alice"`, `1`)},
		{"jti null", h, without(`"n1-b2-3"`, `null`)},
		{"cnf a string", h, claims(`"cnf":"jkt"`)},
		{"cnf with an empty jkt", h, claims(`"cnf":{"jkt":""}`)},
		{"cnf with JKT", h, claims(`"cnf":{"JKT":"a"}`)},
		{"scope array with a space in a name", h, without(`"read write"`, `["read write"]`)},
		{"half a surrogate pair", h, claims(`"x":"\ud800"`)},
		{"surrogates in the wrong order", h, claims(`"x":"\udc00\ud800"`)},
		{"a bad escape", h, claims(`"x":"\q"`)},
		{"a cut escape", h, `{"x":"\u00`},
		{"a raw line break in a string", h, claims("\"x\":\"a\nb\"")},
		{"a trailing comma", h, testPayload[:len(testPayload)-1] + ",}"},
		{"a missing comma", h, strings.Replace(testPayload, `,"sub"`, `"sub"`, 1)},
		{"a leading comma", h, `{,` + testPayload[1:]},
		{"a comment", h, `/**/` + testPayload},
		{"a bare word", h, claims(`"x":nul`)},
		{"a number with a bare point", h, claims(`"x":1.`)},
		{"a hexadecimal number", h, claims(`"x":0x1`)},
		{"our own issuer without ev", h, without(`"ev":"3.41",`, ``)},
		{"our own issuer with a bad ev", h, without(`"3.41"`, `"3.041"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := accept(mint(t, verify.ES256, tt.header, tt.payload), key(verify.ES256))
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			for _, leak := range []string{"alice", "admin", "n1-b2-3", "orders"} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("the error shows a claim: %v", err)
				}
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":1,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// TestAcceptedForms: strictness must not refuse what honest issuers write.
func TestAcceptedForms(t *testing.T) {
	t.Parallel()
	more := func(member string) string { return strings.TrimSuffix(testPayload, "}") + "," + member + "}" }
	h := header(verify.ES256)
	tests := []struct {
		name, header, payload string
		want                  func(c *verify.Claims) bool
	}{
		{"typ with its prefix in capitals", `{"alg":"ES256","typ":"Application/AT+JWT","kid":"k1"}`, testPayload, nil},
		{"JSON with spaces and line breaks", " {\r\n \"alg\" : \"ES256\",\t\"typ\":\"at+jwt\"} ", " " + testPayload + "\n", nil},
		{"JWT-04 key material in the header is ignored", `{"alg":"ES256","typ":"at+jwt","kid":"k1","jku":"https://evil.example/jwks","x5u":"https://evil.example","jwk":{"kty":"oct","k":"AA"},"x5c":["AA"]}`, testPayload, nil},
		{"aud among several", h, strings.Replace(testPayload, `"https://api.example"`, `["https://a.example","https://api.example"]`, 1),
			func(c *verify.Claims) bool { return len(c.Audience) == 2 }},
		{"escapes and surrogate pairs", h, strings.Replace(testPayload, `"alice"`, `"al\u0069ce \ud83d\ude00 \"\\\/"`, 1),
			func(c *verify.Claims) bool { return c.Subject == "alice 😀 \"\\/" }},
		{"scope as an array", h, strings.Replace(testPayload, `"read write"`, `["read","write"]`, 1),
			func(c *verify.Claims) bool { return c.Scope == "read write" }},
		{"nested sixteen deep in all", h, more(`"x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15)), nil},
		{"every kind of value", h, more(`"a":null,"b":true,"c":false,"d":-1.5e-3,"e":0,"f":[1,"2",{"g":{}}],"h":{},"i":[],"j":1E+2,"k":12345678901234567890`), nil},
		{"equal names in different objects", h, more(`"x":{"sub":1,"Sub":2},"y":[{"sub":1},{"sub":2}]`), nil},
		{"our private names with other types", h, strings.NewReplacer(`"gid":"g7"`, `"gid":1000`, `"app":"shop"`, `"app":{"id":1}`, `"root":"r1"`, `"root":null`).Replace(testPayload),
			func(c *verify.Claims) bool { return c.Grant == "" && c.Application == "" && c.Root == "" }},
		{"bound to a DPoP key and a certificate", h, more(`"cnf":{"jkt":"thumb","x5t#S256":"print"}`),
			func(c *verify.Claims) bool { return c.Bound && c.JKT == "thumb" && c.X5T == "print" }},
		{"bound to something unknown stays bound", h, more(`"cnf":{"kid":"x"}`),
			func(c *verify.Claims) bool { return c.Bound && c.JKT == "" && c.X5T == "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := accept(mint(t, verify.ES256, tt.header, tt.payload), key(verify.ES256))
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != nil && !tt.want(&got.Claims) {
				t.Errorf("claims %+v", got.Claims)
			}
		})
	}
}

// TestRefusedSpellings (JWT-08, JWT-09) writes a good token in other ways. go-jose
// is asked too: what it takes of these shows why its verdict is not ours.
func TestRefusedSpellings(t *testing.T) {
	t.Parallel()
	token := good(t, verify.ES256)
	part := strings.Split(token, ".")
	tail := token[len(token)-1]
	other := func() string { // same upper bits, other tail bits
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return token[:len(token)-1] + string(alphabet[strings.IndexByte(alphabet, tail)^1])
	}()
	flattened := fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, part[0], part[1], part[2])
	general := fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q},{"protected":%q,"signature":"AA"}]}`, part[1], part[0], part[2], part[0])
	std := strings.NewReplacer("-", "+", "_", "/")
	tests := []struct {
		name, token string
		joseTakes   bool // go-jose 4.1.9 verifies this spelling
	}{
		{"a line break inside the payload", part[0] + "." + part[1][:8] + "\n" + part[1][8:] + "." + part[2], true},
		{"CRLF at the end", token + "\r\n", true},
		{"a trailing space", token + " ", true},
		{"other tail bits in the signature", other, true},
		{"flattened JSON", flattened, true},
		{"general JSON with a bad second signature", general, false},
		{"padding", token + "==", false},
		{"standard alphabet", std.Replace(part[0] + "." + part[1] + "." + part[2][:80] + "+/"), false},
		{"a leading space", " " + token, true},
		{"a fourth part", token + ".AA", false},
		{"a fourth part, empty", token + ".", false},
		{"four dots, as a JWE has", token + "..", false},
		{"100 000 dots", strings.Repeat(".", 100_000), false},
		{"16 000 dots", strings.Repeat(".", 16_000), false},
		{"one dot", part[0] + "." + part[1], false},
		{"no signature (JWT-01)", part[0] + "." + part[1] + ".", false},
		{"no payload", part[0] + ".." + part[2], false},
		{"no header", "." + part[1] + "." + part[2], false},
		{"nothing", "", false},
		{"percent-encoded", strings.Replace(token, ".", "%2E", 1), false},
		{"a non-ASCII letter", token + "é", false},
		{"a length that base64 cannot have", token[:len(token)-1], false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := accept(tt.token, key(verify.ES256)); !errors.Is(err, verify.ErrMalformed) {
				t.Errorf("error %v, want ErrMalformed", err)
			}
			if got := joseVerifies(tt.token, verify.ES256); got != tt.joseTakes {
				t.Errorf("go-jose verifies it: %v, this table says %v", got, tt.joseTakes)
			}
		})
	}
}

func joseVerifies(token, alg string) bool {
	j, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return false
	}
	_, err = j.Verify(signers()[alg].Public())
	return err == nil
}

// TestJoseAgrees: go-jose's tokens verify here, ours verify there.
func TestJoseAgrees(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{verify.ES256, verify.ES384, verify.EdDSA, verify.RS256, verify.PS256} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			opts := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "k1")
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: signers()[alg]}, opts)
			if err != nil {
				t.Fatal(err)
			}
			j, err := signer.Sign([]byte(testPayload))
			if err != nil {
				t.Fatal(err)
			}
			token, err := j.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := accept(token, key(alg)); err != nil {
				t.Errorf("go-jose's token: %v", err)
			}
			if !joseVerifies(good(t, alg), alg) {
				t.Error("go-jose refuses ours")
			}
		})
	}
}

// TestMutationsNeverVerify changes good tokens at random: bytes swapped, put in,
// cut out, doubled. None may verify.
func TestMutationsNeverVerify(t *testing.T) {
	t.Parallel()
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\r\x00\"{}é"
	for i, alg := range []string{verify.ES256, verify.EdDSA, verify.PS256, verify.RS256} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(7, uint64(i)))
			token, k := good(t, alg), key(alg)
			for n := range 3000 {
				b := []byte(token)
				for range 1 + rng.IntN(3) {
					at, c := rng.IntN(len(b)), letters[rng.IntN(len(letters))]
					switch rng.IntN(5) {
					case 0, 1:
						b[at] = c
					case 2:
						b = append(b[:at], append([]byte{c}, b[at:]...)...)
					case 3:
						b = append(b[:at], b[at+1:]...)
					case 4:
						b = append(b[:at], b[min(at+rng.IntN(9), len(b)):]...)
					}
					if len(b) == 0 {
						b = []byte{c}
					}
				}
				if string(b) == token {
					continue
				}
				if got, err := accept(string(b), k); err == nil {
					t.Fatalf("mutation %d verifies:\n%s\n%+v", n, b, got)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, alg := range algs {
		f.Add(good(f, alg))
	}
	enc := func(h, p string) string {
		return b64.EncodeToString([]byte(h)) + "." + b64.EncodeToString([]byte(p)) + ".AAAA"
	}
	f.Add(enc(`{"alg":"ES256"}`, `{"aud":["a","b"],"cnf":{"jkt":"x"},"x":[{"y":"\ud83d\ude00"},-1.5e3]}`))
	f.Add(enc(`{"alg":"ES256","crit":[]}`, `{"s\u0075b":"a","sub":"b"}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := verify.Parse(token)
		if err != nil {
			if !errors.Is(err, verify.ErrMalformed) {
				t.Fatalf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		// What is taken is one spelling, and JSON to everyone else too.
		part := strings.Split(token, ".")
		if raw := got.Claims.Raw; b64.EncodeToString([]byte(raw)) != part[1] {
			t.Fatalf("the payload has another spelling: %q", part[1])
		}
		var seen struct {
			Issuer  string `json:"iss"`
			Subject string `json:"sub"`
			Expires int64  `json:"exp"`
		}
		if err := json.Unmarshal([]byte(got.Claims.Raw), &seen); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", got.Claims.Raw, err)
		}
		if seen.Issuer != got.Claims.Issuer || seen.Subject != got.Claims.Subject || seen.Expires != got.Claims.Expires {
			t.Fatalf("encoding/json reads %+v of %q", seen, got.Claims.Raw)
		}
	})
}
