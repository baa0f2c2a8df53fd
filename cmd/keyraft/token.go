package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

// newToken builds "keyraft token".
func newToken(c console, dial dialer) *cobra.Command {
	cmd := group("token", "Issue, look into and revoke tokens", "  keyraft token inspect \"$TOKEN\"",
		newTokenIssue(c, dial), newTokenIntrospect(c, dial), newTokenRevoke(c, dial), newTokenInspect(c, dial))
	addClientFlags(cmd)
	return cmd
}

func newTokenIssue(c console, dial dialer) *cobra.Command {
	var auth clientAuth
	var scope, audience string
	var resources []string
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Get an access token by the client credentials grant",
		Long: `Get an access token by the client credentials grant (RFC 6749 §4.4). The token
alone goes to standard output, what the server says of it to standard error.`,
		Example: "  TOKEN=$(keyraft token issue --client-id orders --client-secret-file orders.secret --scope read)\n" +
			"  keyraft token issue --client-id orders --private-key orders.pem --key-id k1 --output json",
		Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			form := url.Values{"grant_type": {"client_credentials"}}
			if scope != "" {
				form.Set("scope", scope)
			}
			if audience != "" {
				form.Set("audience", audience)
			}
			for _, r := range resources {
				form.Add("resource", r)
			}
			r := request{method: "POST", path: "/oauth2/token", form: form}
			if err := auth.apply(cmd, c, api, &r); err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), r)
			if err != nil {
				return err
			}
			return printToken(c, api.out, answer)
		},
	}
	auth.add(cmd)
	cmd.Flags().StringVar(&scope, "scope", "", "scopes, separated by spaces (default: all of the client)")
	cmd.Flags().StringVar(&audience, "audience", "", "API that the token is for, by name")
	cmd.Flags().StringArrayVar(&resources, "resource", nil, "API that the token is for, by URI (RFC 8707); may be repeated")
	return cmd
}

func printToken(c console, out printer, answer json.RawMessage) error {
	var token struct {
		AccessToken string `json:"access_token"`
		Type        string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
		Scope       string `json:"scope"`
	}
	if err := json.Unmarshal(answer, &token); err != nil || token.AccessToken == "" {
		return errors.New("the answer holds no access token; see it with --output json, and check --addr")
	}
	if out.json {
		return out.raw(answer)
	}
	about := token.Type
	if token.ExpiresIn > 0 {
		about += ", expires in " + (time.Duration(min(token.ExpiresIn, 1e9)) * time.Second).String()
	}
	if token.Scope != "" {
		about += ", scope " + token.Scope
	}
	_, _ = fmt.Fprintln(c.Err, oneLine(about)) // the token matters
	return out.write(oneLine(token.AccessToken) + "\n")
}

// tokenArgument returns the token of the command line, or of standard input for
// "-" and for none.
func tokenArgument(c console, args []string) (string, error) {
	var token string
	switch {
	case len(args) == 1 && args[0] != "-":
		token = args[0]
	case len(args) == 0 && c.Ask:
		return "", usagef("TOKEN is missing; give it, or - to read it from standard input")
	default:
		const most = 64 << 10
		text, err := io.ReadAll(io.LimitReader(c.In, most+1))
		if err != nil {
			return "", fmt.Errorf("read the token from standard input: %w", err)
		}
		if len(text) > most {
			return "", usagef("standard input holds more than %s, which is no token", humanBytes(most))
		}
		token = string(text)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", usagef("the token is empty; give it, or - to read it from standard input")
	}
	return token, nil
}

func newTokenIntrospect(c console, dial dialer) *cobra.Command {
	var auth clientAuth
	cmd := &cobra.Command{
		Use:   "introspect [TOKEN]",
		Short: "Ask a node about a token; exit code 1 when it is not active",
		Long: `Ask a node about a token (RFC 7662). The answer is that of a client that is named, or
else of the admin token. A client sees its own tokens and those meant for it.`,
		Example: "  keyraft token introspect \"$TOKEN\"\n  keyraft token introspect --client-id orders --client-secret-file orders.secret - < token",
		Args:    named("[TOKEN]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := tokenArgument(c, args)
			if err != nil {
				return err
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			r := request{method: "POST", path: "/oauth2/introspect", form: url.Values{"token": {token}}}
			if auth.named(cmd, c) {
				if err := auth.apply(cmd, c, api, &r); err != nil {
					return err
				}
			} else if api.token.empty() {
				return usagef("nobody is named who may ask; give --client-id and a secret, or an admin token")
			}
			answer, err := api.call(cmd.Context(), r)
			if err != nil {
				return err
			}
			if err := api.out.object(answer); err != nil {
				return err
			}
			var state struct {
				Active bool `json:"active"`
			}
			if err := json.Unmarshal(answer, &state); err != nil {
				return fmt.Errorf("the answer does not say whether the token is active: %w", err)
			}
			if !state.Active {
				return silentError(1) // the answer says it
			}
			return nil
		},
	}
	auth.add(cmd)
	return cmd
}

// revocation is the body of POST /admin/v1/revocations.
type revocation struct {
	Token        string `json:"token,omitempty"`
	ClientID     string `json:"client_id,omitempty"`
	Subject      string `json:"subject,omitempty"`
	Application  string `json:"application,omitempty"`
	KeyID        string `json:"key_id,omitempty"`
	Root         string `json:"root,omitempty"`
	IssuedBefore int64  `json:"issued_before,omitempty"`
}

// targets counts what is to be revoked; exactly one is allowed.
func (r revocation) targets() int {
	n := 0
	for _, t := range []string{r.Token, r.ClientID, r.Subject, r.Application, r.KeyID, r.Root} {
		if t != "" {
			n++
		}
	}
	return n
}

// newTokenRevoke builds "keyraft token revoke".
func newTokenRevoke(c console, dial dialer) *cobra.Command {
	var target revocation
	var before, wait, timeout string
	cmd := &cobra.Command{
		Use:   "revoke [TOKEN]",
		Short: "Revoke one token, or all tokens of a client, subject, application, key or delegation",
		Long: `Revoke one token, or all tokens of a client, a subject, an application, a signing key
or a delegation tree. With --wait gateways the command returns with a receipt: which
gateways refuse them by now. Exit code 1 when one has not confirmed in time; the
revocation stands all the same.`,
		Example: "  keyraft token revoke --client-id orders\n  keyraft token revoke \"$TOKEN\" --wait gateways\n" +
			"  keyraft token revoke --subject alice --issued-before 2026-11-24T12:00:00Z",
		Args: named("[TOKEN]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if len(args) == 1 {
				if target.Token, err = tokenArgument(c, args); err != nil {
					return err
				}
			}
			if n := target.targets(); n != 1 {
				return usagef("name one of TOKEN, --client-id, --subject, --application, --key-id and --root, not %d", n)
			}
			if target.IssuedBefore, err = instant(before); err != nil {
				return err
			}
			query, err := waitQuery(wait, timeout)
			if err != nil {
				return err
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), "/admin/v1/revocations"+query, target)
			if err != nil {
				return err
			}
			return printReceipt(api.out, answer, wait != "")
		},
	}
	f := cmd.Flags()
	f.StringVar(&target.ClientID, "client-id", "", "revoke every token of this client")
	f.StringVar(&target.Subject, "subject", "", "revoke every token of this user")
	f.StringVar(&target.Application, "application", "", "revoke every token of this application")
	f.StringVar(&target.KeyID, "key-id", "", "revoke every token that this signing key signed")
	f.StringVar(&target.Root, "root", "", "revoke a delegation tree, by its root")
	f.StringVar(&before, "issued-before", "", "only tokens issued up to then: a time (RFC 3339) or seconds since 1970")
	f.StringVar(&wait, "wait", "", "gateways: wait until they have confirmed, and show the receipt")
	f.StringVar(&timeout, "timeout", "5s", "how long to wait for them")
	return cmd
}

// instant reads a time as RFC 3339 or as seconds since 1970; "" is 0.
func instant(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return n, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 {
		return 0, usagef("--issued-before %q is no time; write 2026-11-24T12:00:00Z or seconds since 1970", text)
	}
	return t.Unix(), nil
}

func waitQuery(wait, timeout string) (string, error) {
	switch wait {
	case "":
		return "", nil
	case "gateways":
	default:
		return "", usagef("--wait %q is not known; use gateways", wait)
	}
	d, err := config.ParseDuration(timeout)
	if err != nil {
		return "", usagef("--timeout %q %v", timeout, err)
	}
	if d < time.Millisecond || d > time.Minute {
		return "", usagef("--timeout %s is out of range; use 1ms to 1m", timeout)
	}
	return "?" + url.Values{"wait": {"gateways"}, "timeout": {d.String()}}.Encode(), nil
}

// printReceipt shows a revocation, and which gateways have confirmed it.
func printReceipt(out printer, answer json.RawMessage, waited bool) error {
	var done struct {
		Seq      json.Number       `json:"seq"`
		Head     json.Number       `json:"head"`
		Receipt  []json.RawMessage `json:"receipt"`
		Complete bool              `json:"complete"`
	}
	if err := json.Unmarshal(answer, &done); err != nil {
		return fmt.Errorf("the answer is no receipt (%w); see it with --output json", err)
	}
	if out.json {
		if err := out.raw(answer); err != nil {
			return err
		}
	} else {
		if err := out.write(fmt.Sprintf("revoked: seq %s, head %s\n", done.Seq, done.Head)); err != nil {
			return err
		}
		if waited {
			if err := out.table(done.Receipt, []column{
				{"GATEWAY", "gateway", nil}, {"INSTANCE", "instance", nil}, {"CONFIRMED", "ok", nil}, {"HEAD", "head", nil}, {"AFTER", "ms", milliseconds},
			}, "no gateway is connected"); err != nil {
				return err
			}
		}
	}
	if waited && !done.Complete {
		return errors.New("revoked, but not every gateway has confirmed in time; 'keyraft gateway list' shows how far each is")
	}
	return nil
}
