package httpapi_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
)

// TestHTT14WhoIsBelievedAboutAddresses: the right-most hop that is no trusted proxy.
func TestHTT14WhoIsBelievedAboutAddresses(t *testing.T) {
	t.Parallel()
	routes := []httpapi.Route{{Method: "GET", Path: "/who", Read: state.Local, Serve: func(c *fasthttp.RequestCtx, _ *state.View) error {
		c.SetBodyString(httpapi.Remote(c))
		return nil
	}}}
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	ask := func(s *testServer, lines []string) string {
		t.Helper()
		headers := []string{"X-Real-Ip", "203.0.113.9", "Forwarded", "for=203.0.113.9"}
		for _, line := range lines {
			headers = append(headers, "X-Forwarded-For", line)
		}
		return fetch(t, client, "http://"+s.addr+"/who", headers...)
	}
	networks := func(texts ...string) (out httpapi.Proxies) {
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	believed := start(t, httpapi.Config{Routes: routes, Proxies: networks("127.0.0.0/8", "10.0.0.0/8", "fd00::/8")})
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"nothing said", nil, "127.0.0.1"},
		{"one client", []string{"192.0.2.7"}, "192.0.2.7"},
		{"what the client wrote itself", []string{"198.51.100.1, 192.0.2.7"}, "192.0.2.7"},
		{"a client that says it is this host", []string{"127.0.0.1, 192.0.2.7"}, "192.0.2.7"},
		{"through two proxies", []string{"198.51.100.1, 192.0.2.7, 10.1.2.3"}, "192.0.2.7"},
		{"in two lines", []string{"198.51.100.1, 192.0.2.7", "10.1.2.3"}, "192.0.2.7"},
		{"from within", []string{"10.9.9.9"}, "10.9.9.9"},
		{"with a port", []string{"192.0.2.7:4711"}, "192.0.2.7"},
		{"IPv6", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with a port", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		{"IPv4 in IPv6", []string{"::ffff:192.0.2.7"}, "192.0.2.7"},
		{"a zone", []string{"fe80::1%eth0"}, "fe80::1"},
		{"a name", []string{"localhost"}, "127.0.0.1"},
		{"a name before a proxy", []string{"evil.example, 10.1.2.3"}, "10.1.2.3"},
		{"an empty item", []string{"192.0.2.7,"}, "127.0.0.1"},
		{"unknown", []string{"unknown"}, "127.0.0.1"},
		{"too long a chain", []string{"192.0.2.7" + strings.Repeat(", 10.0.0.1", 100)}, "10.0.0.1"},
	} {
		if got := ask(believed, tt.lines); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	for name, proxies := range map[string]httpapi.Proxies{"no proxies": nil, "others": networks("192.0.2.0/24")} {
		if got := ask(start(t, httpapi.Config{Routes: routes, Proxies: proxies}), []string{"192.0.2.7"}); got != "127.0.0.1" {
			t.Errorf("%s: a stranger is believed to be %s", name, got)
		}
	}
}
