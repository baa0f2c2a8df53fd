package gatewayapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/internal/testnode"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

// judges are a node and a gateway that follows it, and the key that the node signs with.
type judges struct {
	*world
	node    *tokens.Introspector
	gateway *gateway.Gateway
	key     *ecdsa.PrivateKey
	kid     string
}

func newJudges(t testing.TB) *judges {
	t.Helper()
	j := &judges{world: newWorld(t)}
	row, err := tokens.NewSigningKey(j.ring, "default", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	der, err := j.ring.Open("signing-key/7:default/ES256/"+row.GetId(), row.GetSealed())
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	j.key, j.kid = private.(*ecdsa.PrivateKey), row.GetId()
	j.must(&command.PutSigningKey{Key: row})
	j.must(&command.PutClient{Client: &state.Client{Tenant: "default", Id: "app", AuthMethod: "none"}})
	j.tenant("acme")
	j.must(&command.PutClient{Client: &state.Client{Tenant: "acme", Id: "app", AuthMethod: "none"}})
	for kind, target := range map[string]string{"token": "gone", "subject": "mallory", "grant": "ended", "root": "cut", "application": "closed"} {
		j.must(&command.Revoke{Tenant: "default", TargetKind: kind, Target: target, IssuedBefore: time.Now().Unix() - 30, ExpiresAt: time.Now().Unix() + 7200})
	}
	j.node, err = tokens.NewIntrospector(tokens.IntrospectorConfig{
		Signing: tokens.NewSigningKeys(j.ring), Shared: tokens.NewClusterKeys(j.ring), Now: time.Now,
		Absent: func(err error) bool { return errors.Is(err, storage.ErrNotFound) },
	})
	if err != nil {
		t.Fatal(err)
	}
	j.follow(t)
	return j
}

// follow starts the gateway on a server of the node's, and waits until it has all.
func (j *judges) follow(t testing.TB) {
	t.Helper()
	pollers, err := gatewayapi.NewPollers(gatewayapi.PollersConfig{View: j.View, Nodes: func() []string { return []string{"n1"} }, Ask: newNodes().from("n1")})
	if err != nil {
		t.Fatal(err)
	}
	routes, err := gatewayapi.Routes(gatewayapi.Deps{
		View: j.View, HeadMoved: j.HeadMoved, Shared: tokens.NewClusterKeys(j.ring), Signing: tokens.NewSigningKeys(j.ring), Pollers: pollers, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	testnode.Serve(t, ln, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, httpapi.Config{Routes: routes, View: j.View})
	credential := j.world.gateway("edge")
	head := j.fsm.View().Head()
	j.gateway, err = gateway.New(gateway.Config{
		Nodes: []string{"http://" + ln.Addr().String()}, Credential: func(context.Context) (string, error) { return credential, nil }, MaxStaleness: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { pollers.Run(ctx) })
	running.Go(func() {
		if err := j.gateway.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("the gateway: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait(); http.DefaultClient.CloseIdleConnections() })
	until(t, "the gateway to catch up", func() bool { return j.gateway.Fresh() && j.gateway.Status().Head >= head })
}

// sign makes a token of ours of any header and payload.
func (j *judges) sign(t testing.TB, header, payload string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, j.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(raw[:])
}

func (j *judges) header() string { return `{"typ":"at+jwt","alg":"ES256","kid":"` + j.kid + `"}` }

func (j *judges) payload() string {
	now := time.Now().Unix()
	return fmt.Sprintf(`{"iss":"%s","sub":"u1","aud":["a","b"],"exp":%d,"iat":%d,"nbf":%d,"jti":"t1","client_id":"app","scope":"x y","gid":"g1","root":"r1","app":"shop","ev":"1.0","act":{"sub":"z"}}`,
		issuer, now+3000, now-60, now-60)
}

// verdicts are what both say. A token that is bound to a key counts as good: the gateway
// alone asks for the proof here.
func (j *judges) verdicts(t testing.TB, token string) (node, gate bool, reason gateway.Reason) {
	t.Helper()
	answer, err := j.node.Introspect(j.fsm.View(), &tokens.Caller{}, token)
	if err != nil {
		t.Fatal(err)
	}
	_, err = j.gateway.Validate(t.Context(), gateway.Request{Token: token})
	if err != nil {
		reason = gateway.ReasonOf(err)
	}
	return answer.Active, err == nil || reason == gateway.Bound, reason
}

// agree holds the two against each other. Twice, since a second may pass between them.
func (j *judges) agree(t testing.TB, token string) bool {
	t.Helper()
	for range 2 {
		node, gate, reason := j.verdicts(t, token)
		if reason == gateway.Internal || reason == gateway.NotSynced || reason == gateway.Stale {
			t.Fatalf("the gateway says %s to %s", reason, token)
		}
		if node == gate {
			return node
		}
		if !node && j.excused(token) {
			return false
		}
	}
	node, _, reason := j.verdicts(t, token)
	t.Errorf("the node says %v, the gateway %q: %s", node, reason, token)
	return node
}

// excused are the two cases in which the node knows more than a verifier: whether the
// client of a token exists, and that a token of its own ends at its second, whatever the
// clocks of others say. No node makes a token of the first kind.
func (j *judges) excused(token string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	var said struct {
		Client string `json:"client_id"`
		Exp    int64  `json:"exp"`
	}
	return err == nil && json.Unmarshal(raw, &said) == nil && (said.Client != "app" || said.Exp <= time.Now().Unix())
}

// odd are values that a claim may be given.
var odd = []string{
	`null`, `""`, `[]`, `{}`, `true`, `0`, `-1`, `1e20`, `1.5`, `9223372036854775807`, `9223372036854775808`, `"x"`, `["a"]`, `[null]`, `[["a"]]`, `["a","a"]`, `[1]`,
	`"` + issuer + `"`, `"` + issuer + `/"`, `"` + issuer + `/t/acme"`, `"` + issuer + `/t/nobody"`, `"https://STS.example"`, `"https://sts.example:443"`,
	`"gone"`, `"mallory"`, `"ended"`, `"cut"`, `"closed"`, `"1.0"`, `"1.99999"`, `"9.0"`, `"0.0"`, `"1"`, `"1.-1"`, `"at+jwt"`, `"application/at+jwt"`, `"AT+JWT"`, `"JWT"`, `"none"`, `"ES256"`, `"RS256"`, `"HS256"`,
	`{"jkt":"x"}`, `{"x5t#S256":"x"}`, `{"jkt":1}`, `{"other":"x"}`, "\"\xff\"", `"\ud800"`, `"a\u0000b"`, `["b64"]`,
}

// changed is a JSON object with one thing of it made odd.
func changed(random *mathrand.Rand, object string) string {
	inner := strings.TrimSuffix(strings.TrimPrefix(object, "{"), "}")
	members := slices.Collect(strings.SplitSeq(strings.ReplaceAll(inner, `["a","b"]`, `["a"]`), ","))
	at := random.IntN(len(members))
	name, _, _ := strings.Cut(members[at], ":")
	switch random.IntN(8) {
	case 0:
		members = slices.Delete(members, at, at+1)
	case 1:
		members = append(members, members[at])
	case 2:
		members[at] = strings.ToUpper(name) + members[at][len(name):]
	case 3:
		members = append(members, strings.ToUpper(name)+":"+odd[random.IntN(len(odd))])
	case 4:
		members = append(members, []string{`"cnf"`, `"crit"`, `"b64"`, `"jku"`, `"new"`, `"nbf"`}[random.IntN(6)]+":"+odd[random.IntN(len(odd))])
	default:
		members[at] = name + ":" + odd[random.IntN(len(odd))]
	}
	return "{" + strings.Join(members, ",") + "}"
}

// bent is a text with some of its bytes changed.
func bent(random *mathrand.Rand, text string) string {
	const alphabet = "ABZabz019-_.=+/ \n\r\t{}[]\",:\\\x00\xff"
	for range 1 + random.IntN(3) {
		at, b := random.IntN(len(text)), alphabet[random.IntN(len(alphabet))]
		switch random.IntN(3) {
		case 0:
			text = text[:at] + string(rune(b)) + text[at:]
		case 1:
			text = text[:at] + text[at+1:]
		default:
			text = text[:at] + string([]byte{b}) + text[at+1:]
		}
	}
	return text
}

// TestJWT28TheNodeAndTheGatewayAgree: five thousand tokens, changed as a whole, or in
// header or payload and then signed by the node's own key, get one verdict from the node's
// introspection and from the gateway.
func TestJWT28TheNodeAndTheGatewayAgree(t *testing.T) {
	t.Parallel()
	j := newJudges(t)
	good := j.sign(t, j.header(), j.payload())
	if !j.agree(t, good) {
		t.Fatal("a good token is refused by both")
	}
	random := mathrand.New(mathrand.NewPCG(28, 28))
	active := 0
	for i := range 5000 {
		var token string
		switch i % 5 {
		case 0:
			token = bent(random, good)
		case 1:
			token = j.sign(t, bent(random, j.header()), j.payload())
		case 2:
			token = j.sign(t, j.header(), bent(random, j.payload()))
		case 3:
			token = j.sign(t, changed(random, j.header()), j.payload())
		default:
			token = j.sign(t, j.header(), changed(random, j.payload()))
		}
		if j.agree(t, token) {
			active++
		}
	}
	if active < 100 || active > 4900 {
		t.Errorf("%d of 5000 are good: the changes are all of one kind", active)
	}
}

// TestATenantWithoutKeysStopsNoGateway: its first keys are made a moment after it.
func TestATenantWithoutKeysStopsNoGateway(t *testing.T) {
	t.Parallel()
	j := newJudges(t) // acme has none, and the gateway has caught up
	n := start(j.world, options{})
	for _, tenant := range []string{"default", "acme"} {
		listed := strings.Contains(string(n.get(adminToken, "/gateway/v1/jwks").body), `"tenant":"`+tenant+`"`)
		if listed != (tenant == "default") {
			t.Errorf("%s is listed: %v", tenant, listed)
		}
	}
}

// FuzzJWT28Verdicts is the same, for headers and payloads that the fuzzer finds.
func FuzzJWT28Verdicts(f *testing.F) {
	j := newJudges(f)
	f.Add(j.header(), j.payload(), true)
	f.Add(`{"alg":"none"}`, `{}`, false)
	random := mathrand.New(mathrand.NewPCG(1, 1))
	for range 50 {
		f.Add(changed(random, j.header()), changed(random, j.payload()), true)
	}
	f.Fuzz(func(t *testing.T, header, payload string, signed bool) {
		token := j.sign(t, header, payload)
		if !signed {
			token = header + "." + payload + token[strings.LastIndexByte(token, '.'):]
		}
		j.agree(t, token)
	})
}
