package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyraft/keyraft/internal/bench/peers"
)

// discovery is where each peer publishes its metadata.
var discovery = map[string]string{
	"oidc-provider": "/.well-known/openid-configuration",
	"zitadel-oidc":  "/.well-known/openid-configuration",
	"keycloak":      "/realms/bench/.well-known/openid-configuration",
}

// TestVersionsAreThoseInstalled: the tables name a version; it must be the one
// that the package files ask for, exactly.
func TestVersionsAreThoseInstalled(t *testing.T) {
	t.Parallel()
	lines := map[string]string{ // file: the line that holds %s
		"oidc-provider/package.json":      `"oidc-provider": "%s"`,
		"oidc-provider/package-lock.json": `"oidc-provider": "%s"`,
		"zitadel/go.mod":                  "github.com/zitadel/oidc/v3 v%s\n",
	}
	versions := map[string]string{}
	for _, p := range peers.All() {
		versions[p.Name] = p.Version
	}
	for file, line := range lines {
		version := versions["oidc-provider"]
		if strings.HasPrefix(file, "zitadel") {
			version = versions["zitadel-oidc"]
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(line, version); !strings.Contains(string(text), want) {
			t.Errorf("%s does not hold %q", file, want)
		}
		if strings.Contains(string(text), `"resolved"`) {
			t.Errorf("%s names a registry; make it with npm's omit-lockfile-registry-resolved", file)
		}
	}
}

// TestAPeerWhoseProgramIsMissingSaysWhich: an empty PATH has none of them.
func TestAPeerWhoseProgramIsMissingSaysWhich(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, p := range peers.All() {
		missing := p.Missing()
		if missing == "" {
			t.Errorf("%s misses nothing in an empty PATH", p.Name)
			continue
		}
		err := p.Prepare(t.Context(), peers.Folders{Source: ".", Cache: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "no "+missing+" in PATH") {
			t.Errorf("prepare %s: %v", p.Name, err)
		}
	}
}

// TestPeersServeWhatTheySay installs and starts the real peers, so it runs only
// on demand: KEYRAFT_PEERS=1 for those that install in seconds, KEYRAFT_PEERS=all
// for Keycloak too (170 MB, and minutes to build and start).
func TestPeersServeWhatTheySay(t *testing.T) {
	wanted := os.Getenv("KEYRAFT_PEERS")
	if wanted == "" {
		// It downloads, so it is asked for by name, whatever KEYRAFT_REQUIRE says; .ci/run
		// asks for it.
		t.Skip("set KEYRAFT_PEERS=1 (or all) to install and start the peers")
	}
	for _, p := range peers.All() {
		t.Run(p.Name, func(t *testing.T) {
			if p.Name == "keycloak" && wanted != "all" {
				// Minutes and 170 MB, so KEYRAFT_REQUIRE alone doesn't bring it either.
				t.Skip("set KEYRAFT_PEERS=all to fetch, build and start Keycloak")
			}
			if missing := p.Missing(); missing != "" {
				if os.Getenv("KEYRAFT_REQUIRE") == "all" {
					t.Fatalf("no %s in PATH", missing)
				}
				t.Skipf("no %s in PATH", missing)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
			defer cancel()
			folders := peers.Folders{Source: ".", Cache: t.TempDir()}
			for range 2 { // the second finds everything there
				if err := p.Prepare(ctx, folders); err != nil {
					t.Fatal(err)
				}
			}
			core := firstCore(t)
			r, err := p.Start(ctx, folders, core)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Stop)
			if !strings.HasPrefix(r.URL, "http://127.0.0.1:") {
				t.Errorf("it serves at %s, not on loopback", r.URL)
			}
			checkProcess(t, r, core)
			for _, w := range p.Workloads {
				t.Run(string(w), func(t *testing.T) { checkWorkload(ctx, t, r, w) })
			}
			checkWrongSecret(ctx, t, r)
		})
	}
}

// firstCore is a core that this process may use.
func firstCore(t *testing.T) int {
	t.Helper()
	list, err := exec.Command("taskset", "-cp", strconv.Itoa(os.Getpid())).Output()
	if err != nil {
		t.Fatalf("ask for this process's cores: %v", err)
	}
	_, cores, _ := strings.Cut(string(list), "list: ")
	digits := strings.IndexFunc(cores, func(r rune) bool { return r < '0' || r > '9' })
	core, err := strconv.Atoi(cores[:max(0, digits)])
	if err != nil {
		t.Fatalf("no core in %q", list)
	}
	return core
}

// checkProcess: the process to measure is the server, held to its core.
func checkProcess(t *testing.T, r *peers.Running, core int) {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.PID()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Cpus_allowed_list:\t%d\n", core); !strings.Contains(string(status), want) {
		t.Errorf("process %d is not pinned to core %d:\n%s", r.PID(), core, status)
	}
	bin, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(r.PID()), "exe"))
	if err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(bin); !slices.Contains([]string{"node", "server", "java"}, name) {
		t.Errorf("process %d is %s, not the server itself", r.PID(), bin)
	}
}

func checkWorkload(ctx context.Context, t *testing.T, r *peers.Running, w peers.Workload) {
	request, err := r.Request(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the same request again and again, as a load generator sends it
		var answer struct {
			AccessToken string `json:"access_token"`
			TokenType   string `json:"token_type"`
			Scope       string `json:"scope"`
			ExpiresIn   int    `json:"expires_in"`
			Active      bool   `json:"active"`
		}
		decode(t, send(ctx, t, request), &answer)
		if w == peers.Introspect {
			if !answer.Active || answer.Scope != "read" {
				t.Fatalf("a live token is introspected as %+v", answer)
			}
			continue
		}
		if answer.TokenType != "Bearer" || answer.Scope != "read" || answer.ExpiresIn < 298 || answer.ExpiresIn > 300 {
			t.Errorf("type %q, scope %q, lifetime %d; want a bearer token with scope read for 300 s", answer.TokenType, answer.Scope, answer.ExpiresIn)
		}
		switch w {
		case peers.JWTES256:
			checkJWT(ctx, t, r, answer.AccessToken, jose.ES256)
		case peers.JWTRS256:
			checkJWT(ctx, t, r, answer.AccessToken, jose.RS256)
		case peers.Opaque:
			if _, err := jwt.ParseSigned(answer.AccessToken, []jose.SignatureAlgorithm{jose.ES256, jose.RS256}); err == nil {
				t.Error("the opaque token is a signed JWT")
			}
		}
	}
}

// checkJWT verifies a token by the keys that the peer publishes.
func checkJWT(ctx context.Context, t *testing.T, r *peers.Running, token string, alg jose.SignatureAlgorithm) {
	t.Helper()
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	decode(t, send(ctx, t, peers.Request{Method: http.MethodGet, URL: r.URL + discovery[r.Peer.Name]}), &metadata)
	var keys jose.JSONWebKeySet
	decode(t, send(ctx, t, peers.Request{Method: http.MethodGet, URL: metadata.JWKSURI}), &keys)
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatalf("no JWT with %s: %v", alg, err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(keys, &claims); err != nil {
		t.Fatalf("its own keys do not verify the token: %v", err)
	}
	if err := claims.Validate(jwt.Expected{Issuer: metadata.Issuer, Time: time.Now()}); err != nil {
		t.Errorf("claims: %v", err)
	}
	if claims.Subject == "" || claims.ID == "" || claims.IssuedAt == nil || claims.Expiry == nil {
		t.Errorf("the token lacks one of sub, jti, iat, exp: %+v", claims)
	}
	if alg == jose.RS256 {
		if signature := strings.Split(token, ".")[2]; len(signature) != 342 { // 256 bytes in base64url
			t.Errorf("the RS256 signature has %d characters; want those of 2048 bits", len(signature))
		}
	}
}

// checkWrongSecret: a peer that let anyone in would be measured doing less.
func checkWrongSecret(ctx context.Context, t *testing.T, r *peers.Running) {
	t.Helper()
	for _, w := range r.Peer.Workloads {
		request, err := r.Request(ctx, w)
		if err != nil {
			t.Fatal(err)
		}
		name := []byte("client_secret=")
		at := bytes.Index(request.Body, name)
		if at < 0 { // in the header
			request.Header.Set("Authorization", "Basic eDp5")
		} else {
			request.Body[at+len(name)] ^= 1
		}
		resp := do(ctx, t, request)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with a wrong secret: status %d", w, resp.StatusCode)
		}
	}
}

func do(ctx context.Context, t *testing.T, request peers.Request) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, request.Method, request.URL, bytes.NewReader(request.Body))
	if err != nil {
		t.Fatal(err)
	}
	if request.Header != nil {
		req.Header = request.Header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func send(ctx context.Context, t *testing.T, request peers.Request) []byte {
	t.Helper()
	resp := do(ctx, t, request)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d: %s", request, resp.StatusCode, body)
	}
	return body
}

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("the answer is no JSON of this kind: %v", err)
	}
}
