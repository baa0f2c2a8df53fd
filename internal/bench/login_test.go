package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// door is a login by one page, for what a real server would hardly say.
type door struct {
	page, code string // what the login page shows, and where a known browser is sent
	rotates    bool
	redeemed   atomic.Int64
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/login" && r.FormValue("flow") == "f&1" && r.FormValue("password") == "right":
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "s"})
		http.Redirect(w, r, "https://app.example/cb?code=first", http.StatusSeeOther)
	case r.URL.Path == "/oauth2/authorize":
		if _, err := r.Cookie("session"); err != nil {
			fmt.Fprint(w, d.page)
			return
		}
		http.Redirect(w, r, d.code, http.StatusSeeOther)
	case r.URL.Path == "/oauth2/token":
		n := int64(0)
		if d.rotates {
			n = d.redeemed.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"a","refresh_token":"r%d"}`, n)
	default:
		http.Error(w, "no", http.StatusBadRequest)
	}
}

const flowPage = `<form><input type="hidden" name="flow" value="f&amp;1"></form>`

func TestALoginGoesRoundUntilSomethingIsMissing(t *testing.T) {
	t.Parallel()
	back := "https://app.example/cb?state=bench&code=c%2Fd"
	for _, tt := range []struct {
		name, page, code, password string
		rotates, refresh           bool
		fails, kind                string
	}{
		{name: "codes", page: flowPage, code: back, password: "right"},
		{name: "refresh", page: flowPage, code: back, password: "right", rotates: true, refresh: true},
		{name: "no page", page: "hello", code: back, password: "right", fails: "no login page"},
		{name: "a wrong password", page: flowPage, code: back, password: "wrong", fails: "did not lead back"},
		{name: "an error in place of a code", page: flowPage, code: "https://app.example/cb?error=access_denied", password: "right", kind: KindNoCode},
		{name: "another place", page: flowPage, code: "https://evil.example/cb?code=x", password: "right", kind: KindNoCode},
		{name: "a refresh token that stays", page: flowPage, code: back, password: "right", refresh: true, kind: KindNoRefresh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &door{page: tt.page, code: tt.code, rotates: tt.rotates}
			s := httptest.NewServer(d)
			defer s.Close()
			workers, err := Login{
				Server: s.URL, Client: Credentials{ID: "c", Secret: "s"}, Redirect: "https://app.example/cb", Scope: "openid",
				Username: "u", Password: tt.password, Timeout: 10 * time.Second, Refresh: tt.refresh,
			}.Workers(context.Background(), 2)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) || strings.Contains(err.Error(), tt.password) {
					t.Fatalf("error %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer closeAll(workers)
			for n := range uint64(4) {
				if out := workers[n%2].Do(n); out != (Outcome{0, tt.kind}) {
					t.Errorf("operation %s gave %+v, want %q", strconv.FormatUint(n, 10), out, tt.kind)
				}
			}
			if got := d.redeemed.Load(); tt.rotates && got != 6 {
				t.Errorf("%d token requests, want 2 for codes and 4 to rotate", got)
			}
		})
	}
}
