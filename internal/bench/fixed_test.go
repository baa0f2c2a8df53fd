package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestFixed: the forms take turns, and an answer that says too little is a failure.
func TestFixed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, r.URL.RequestURI()+" "+r.Header.Get("Authorization")+" "+string(body))
		mu.Unlock()
		switch string(body) {
		case "live":
			_, _ = io.WriteString(w, `{ "active" : true }`)
		case "ended":
			_, _ = io.WriteString(w, `{"active":false}`)
		case "issued":
			_, _ = io.WriteString(w, `{"access_token":"x"}`)
		default:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_request"}`)
		}
	}))
	defer s.Close()
	ask := func(active bool, forms ...string) (kinds []string) {
		f := Fixed{URL: s.URL + "/a/b?c=d", Authorization: "Basic eDp5", Active: active}
		for _, form := range forms {
			f.Forms = append(f.Forms, []byte(form))
		}
		workers, err := f.Workers(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(workers)
		for n := range forms {
			kinds = append(kinds, workers[0].Do(uint64(n)).Kind)
		}
		return kinds
	}
	if got := ask(true, "live", "ended", "issued", "other"); fmt.Sprint(got) != fmt.Sprint([]string{"", KindInactive, KindInactive, "400 invalid_request"}) {
		t.Errorf("introspection: %q", got)
	}
	if got := ask(false, "issued", "live"); fmt.Sprint(got) != fmt.Sprint([]string{"", KindNoToken}) {
		t.Errorf("issue: %q", got)
	}
	if len(seen) != 6 || seen[0] != "/a/b?c=d Basic eDp5 live" {
		t.Errorf("%q", seen)
	}
}

// TestFixedHidesWhatItSends: its form holds a secret.
func TestFixedHidesWhatItSends(t *testing.T) {
	t.Parallel()
	f := Fixed{URL: "http://127.0.0.1:1/token", Authorization: "Basic c2VjcmV0", Forms: [][]byte{[]byte("client_secret=secret")}}
	if text := fmt.Sprintf("%v %+v %#v", f, f, f); strings.Contains(text, "secret") || strings.Contains(text, "c2VjcmV0") {
		t.Error(text)
	}
	for _, bad := range []Fixed{{URL: f.URL}, {URL: "gopher://x", Forms: f.Forms}, {URL: "://", Forms: f.Forms}, f} {
		if _, err := bad.Workers(t.Context(), 1); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", bad.URL, err)
		}
	}
}
