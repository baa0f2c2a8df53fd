package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// apiError is a refusal by the server as one line: what it says, and what to do
// where the status alone tells.
type apiError struct {
	status     int
	code       string // "invalid_client", "not_found" …; may be empty
	text       string
	retryAfter time.Duration // negative: the server named none
}

func (e *apiError) Error() string { return e.text }

// refusal reads an RFC 9457 problem document or an OAuth error (RFC 6749 §5.2).
func (a *api) refusal(r request, resp *http.Response, answer []byte) error {
	e := &apiError{status: resp.StatusCode, retryAfter: retryAfter(resp)}
	var doc struct {
		Title, Detail, Field, Code string
		Error                      string `json:"error"`
		Description                string `json:"error_description"`
	}
	if json.Unmarshal(answer, &doc) != nil || doc.Title+doc.Detail+doc.Code+doc.Error == "" {
		e.text = a.foreign(resp)
		return e
	}
	e.code = firstOf(doc.Error, doc.Code)
	text := firstOf(doc.Description, doc.Detail, doc.Title, doc.Error, doc.Code)
	if doc.Field != "" && !strings.HasPrefix(text, doc.Field) {
		text = doc.Field + ": " + text
	}
	if e.code != "" && !strings.Contains(text, e.code) {
		text += " (" + e.code + ")"
	}
	if hint := a.hint(r, e); hint != "" {
		text = strings.TrimRight(text, ". ") + "; " + hint
	}
	e.text = oneLine(text)
	return e
}

// hint is what to do about a status, where the server can't know it: it knows
// nothing of our flags.
func (a *api) hint(r request, e *apiError) string {
	switch {
	case e.code == "outcome_unknown":
		return "it may have been done or not: look before you repeat it"
	case e.status == http.StatusUnauthorized && (r.authorize != nil || r.basic):
		return "check --client-id and --client-secret"
	case e.status == http.StatusUnauthorized && a.token.empty():
		return "no token was sent: set KEYRAFT_TOKEN, --token or --token-file (a node prints its admin token at its first start)"
	case e.status == http.StatusUnauthorized:
		return "check KEYRAFT_TOKEN, --token or --token-file"
	case e.status == http.StatusForbidden && r.authorize == nil:
		return "use a token that has the right"
	case e.status == http.StatusServiceUnavailable, e.status == http.StatusTooManyRequests:
		if e.retryAfter > 0 {
			return "try again in " + e.retryAfter.String()
		}
		return "try again, or another node with --addr"
	}
	return ""
}

// foreign describes an answer that is not ours.
func (a *api) foreign(resp *http.Response) string {
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode/100 == 3 {
		return fmt.Sprintf("%s answered %s to %s, which is not followed; set --addr or KEYRAFT_ADDR to the node itself", a.node, oneLine(resp.Status), oneLine(to))
	}
	return fmt.Sprintf("%s answered %s without saying why; if it is not a Keyraft node, set --addr or KEYRAFT_ADDR", a.node, oneLine(resp.Status))
}

func retryAfter(resp *http.Response) time.Duration {
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || n < 0 || n > 3600 {
		return -1
	}
	return time.Duration(n) * time.Second
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// unreachable says in one line why no answer came and what to do.
func (a *api) unreachable(err error) error {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s; start a node with 'keyraft server --dev', or point --addr or KEYRAFT_ADDR to one", a.node)
	case errors.As(err, &dns):
		return fmt.Errorf("the host of %s is not known; check --addr or KEYRAFT_ADDR", a.node)
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s is signed by an authority that this machine does not know; name it with --cacert or KEYRAFT_CACERT", a.node)
	case errors.As(err, &name):
		return fmt.Errorf("the certificate of %s is for another name; use that name in --addr or KEYRAFT_ADDR", a.node)
	case errors.As(err, &invalid):
		return fmt.Errorf("the certificate of %s is not valid (%v); renew it", a.node, invalid)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s speaks plain HTTP; use http:// in --addr or KEYRAFT_ADDR", a.node)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s gave no answer in time; try again, or another node with --addr", a.node)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text repeats method and URL
	}
	return fmt.Errorf("%s can't be asked: %w; check --addr or KEYRAFT_ADDR", a.node, err)
}
