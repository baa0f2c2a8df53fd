package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/keymanagers/match"
)

// A gateway in front of two APIs, which refuses everything when it has lost the
// cluster for ten seconds, and goes on from a file after a restart.
func ExampleNew() {
	g, err := gateway.New(gateway.Config{
		Nodes:          []string{"https://sts-1.example:9443", "https://sts-2.example:9443"},
		CredentialFile: "/etc/keyraft/gateway.cred",
		CacheFile:      "/var/lib/keyraft/gateway.cache",
		MaxStaleness:   10 * time.Second,
		APIs: []match.API{
			{Name: "orders", Audience: []string{"https://orders.example"}, Scopes: []string{"orders:read"}},
			{Name: "health"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { log.Println(g.Run(ctx)) }()
}

// A handler that lets a request through when its token may be used at one API.
func ExampleGateway_Validate() {
	var g *gateway.Gateway // of New; its Run is under way
	protect := func(api string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			who, err := g.Validate(r.Context(), gateway.Request{Scheme: scheme, Token: token, API: api, Method: r.Method, URL: r.URL.String()})
			var refused *gateway.Refusal
			if errors.As(err, &refused) {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer error=%q", refused.Code))
				http.Error(w, refused.Message, refused.Status)
				return
			}
			log.Printf("%s may read: %v", who, who.HasScope("orders:read"))
			next.ServeHTTP(w, r)
		})
	}
	http.Handle("/orders/", protect("orders", http.NotFoundHandler()))
}

// Why a token was refused, as one word of a closed list.
func ExampleReasonOf() {
	err := fmt.Errorf("orders: %w", &gateway.Refusal{Reason: gateway.Revoked, Status: 401})
	fmt.Println(gateway.ReasonOf(err), gateway.ReasonOf(errors.New("something else")))
	// Output: revoked internal
}

// What a health check asks.
func ExampleGateway_Status() {
	var g *gateway.Gateway // of New
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := g.Status(); s.Refusing {
			http.Error(w, fmt.Sprintf("head %d is %d ms old: %s", s.Head, s.HeadAgeMS, s.Problem), http.StatusServiceUnavailable)
		}
	})
}
