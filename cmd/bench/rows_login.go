package main

import (
	"context"
	"net/http"

	"github.com/keyraft/keyraft/internal/bench"
	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const (
	benchRedirect = "https://app.example/cb"
	benchUser     = "bench"
	benchPassword = "a long phrase of the benchmark"
)

// loginFigures are those of a user's tokens: each operation is one commit, which others
// share.
func loginFigures() []figure {
	bound := func(requests, signatures float64) func(round) float64 {
		return func(r round) float64 { return requests*r["bare"]["cpu_us"] + signatures*r["sig_es256"]["cpu_us"] }
	}
	row := func(name, limit string, bound func(round) float64) figure {
		return figure{
			name: name, unit: "µs CPU", limit: limit, needs: []string{name, "bare", "sig_es256"},
			value: cpu(name), bound: bound, less: true,
		}
	}
	return []figure{
		row("code_login", "2 bare + 2 sig", bound(2, 2)),
		row("refresh_rotate", "bare + 2 sig", bound(1, 2)),
	}
}

func (s *stage) loginMakers() []maker {
	return []maker{{"code_login", s.prepareLogin("code_login", false)}, {"refresh_rotate", s.prepareLogin("refresh_rotate", true)}}
}

// prepareLogin makes the user and a first party's client, whose codes and refresh tokens
// are asked for over one session. The node does nothing else: the families of refresh
// tokens stay in its state.
func (s *stage) prepareLogin(client string, refresh bool) func(context.Context) (runner, error) {
	return func(ctx context.Context) (runner, error) {
		known := s.servers["keyraft-login"] != nil
		v, err := s.alone(ctx, "keyraft-login")
		if err != nil {
			return nil, err
		}
		api := proc.API{Base: v.ready.URL, Token: v.ready.AdminToken, HTTP: proc.NewHTTP()}
		defer api.HTTP.CloseIdleConnections()
		bound, cancel := context.WithTimeout(ctx, readyBound)
		defer cancel()
		if !known {
			user := map[string]any{"username": benchUser, "password": benchPassword}
			if err := api.Write(bound, http.MethodPost, "/admin/v1/users", user, nil); err != nil {
				return nil, err
			}
		}
		c, err := api.CreateClient(bound, map[string]any{
			"client_id": client, "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
			"redirect_uris": []string{benchRedirect}, "scope": "openid", "skip_consent": true,
			"id_token_signed_response_alg": "ES256", "access_token_signed_response_alg": "ES256",
		})
		login := bench.Login{
			Server: v.ready.URL, Client: bench.Credentials{ID: c.ID, Secret: c.Secret}, Redirect: benchRedirect, Scope: "openid",
			Username: benchUser, Password: benchPassword, Refresh: refresh,
		}
		return func(ctx context.Context) (bench.Figures, error) {
			workers, err := login.Workers(ctx, s.o.connections)
			if err != nil {
				return nil, err
			}
			r, err := succeeded(bench.Run(ctx, bench.Load{
				Ops: []string{client}, Workers: workers, Warmup: s.o.warmup, Duration: s.o.long, Server: load{server: v}.process(),
			}))
			if err != nil {
				return nil, err
			}
			return r.Figures(), nil
		}, err
	}
}
