package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

const clientsPath = "/admin/v1/clients"

// newClient builds "keyraft client": registered OAuth clients (RFC 7591).
func newClient(c console, dial dialer) *cobra.Command {
	cmd := group("client", "Register and manage OAuth clients", "  keyraft client list",
		newClientCreate(c, dial), newClientList(dial), newClientGet(dial), newClientUpdate(c, dial),
		newClientDelete(c, dial), newClientRotateSecret(dial),
		newRegistrationToken(c, dial), newRegistrationPolicy(c, dial))
	addClientFlags(cmd)
	return cmd
}

// clientFlags are the members of a client that have a flag. Others are set with
// --set or --file.
type clientFlags struct {
	file, name, scope, authMethod, jwksFile string
	tokenFormat, tokenLifetime, tokenAlg    string
	introspection                           string
	grants, redirects, resources, set       []string
	claims                                  []string
	enabled                                 bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "file", "", "JSON file with the client's members (- for standard input); flags win over it")
	fl.StringVar(&f.name, "name", "", "name for people (client_name)")
	fl.StringVar(&f.scope, "scope", "", "scopes that it may ask for, separated by spaces")
	fl.StringVar(&f.authMethod, "auth-method", "", "client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth or none (token_endpoint_auth_method)")
	fl.StringVar(&f.jwksFile, "jwks-file", "", "file with its public keys, for private_key_jwt (jwks)")
	fl.StringVar(&f.tokenFormat, "token-format", "", "jwt or opaque (access_token_format)")
	fl.StringVar(&f.tokenLifetime, "token-lifetime", "", "lifetime of its access tokens, as 10m or in seconds (access_token_lifetime)")
	fl.StringVar(&f.tokenAlg, "token-alg", "", "signature of its JWTs: ES256, EdDSA, PS256 or RS256 (access_token_signed_response_alg)")
	fl.StringVar(&f.introspection, "introspection", "", "tokens that it may introspect: own, audience (also those for its resources) or any (introspection)")
	fl.StringSliceVar(&f.grants, "grant", nil, "grant types, such as client_credentials (grant_types)")
	fl.StringSliceVar(&f.redirects, "redirect-uri", nil, "redirect URIs (redirect_uris)")
	fl.StringSliceVar(&f.resources, "resource", nil, "APIs that it may ask tokens for, RFC 8707 (resources)")
	fl.StringArrayVar(&f.claims, "token-claim", nil, "claim of its access tokens from what is known of the user, as claim=source: roles=roles, office=attribute:office; all of them, since they replace those before (access_token_claims)")
	fl.StringArrayVar(&f.set, "set", nil, "any other member, as member=JSON")
	fl.BoolVar(&f.enabled, "enabled", true, "whether it may be used")
}

// members makes the JSON object of the file and of those flags that were given.
func (f *clientFlags) members(cmd *cobra.Command, c console) (map[string]any, error) {
	m := map[string]any{}
	if f.file != "" {
		text, err := f.read(c, f.file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &m); err != nil || m == nil {
			return nil, usagef("%s is not a JSON object; write {\"member\": value}", f.file)
		}
	}
	for _, t := range []struct {
		flag, member string
		value        any
	}{
		{"name", "client_name", f.name}, {"scope", "scope", f.scope}, {"auth-method", "token_endpoint_auth_method", f.authMethod},
		{"token-format", "access_token_format", f.tokenFormat}, {"introspection", "introspection", f.introspection},
		{"token-alg", "access_token_signed_response_alg", f.tokenAlg}, {"grant", "grant_types", f.grants},
		{"redirect-uri", "redirect_uris", f.redirects}, {"resource", "resources", f.resources}, {"enabled", "enabled", f.enabled},
	} {
		if cmd.Flags().Changed(t.flag) {
			m[t.member] = t.value
		}
	}
	if f.tokenLifetime != "" {
		d, err := config.ParseDuration(f.tokenLifetime)
		if err != nil {
			return nil, usagef("--token-lifetime %q %v", f.tokenLifetime, err)
		}
		if d%time.Second != 0 {
			return nil, usagef("--token-lifetime %q is not a whole number of seconds", f.tokenLifetime)
		}
		m["access_token_lifetime"] = int64(d / time.Second)
	}
	if f.jwksFile != "" {
		text, err := f.read(c, f.jwksFile)
		if err != nil {
			return nil, err
		}
		if !json.Valid(text) {
			return nil, usagef("%s is not JSON; write {\"keys\": [...]}", f.jwksFile)
		}
		m["jwks"] = json.RawMessage(text)
	}
	if err := setClaims(m, f.claims); err != nil {
		return nil, err
	}
	return m, setMembers(m, f.set, "software_version=10")
}

// setClaims puts the rules for claims that are written as claim=source into m.
func setClaims(m map[string]any, pairs []string) error {
	var rules []map[string]string
	for _, pair := range pairs {
		claim, source, ok := strings.Cut(pair, "=")
		if !ok {
			return usagef("--token-claim %q is not claim=source; write roles=roles or office=attribute:office", pair)
		}
		rules = append(rules, map[string]string{"claim": claim, "source": source})
	}
	if rules != nil {
		m["access_token_claims"] = rules
	}
	return nil
}

// setMembers puts members that are written as member=JSON into m; like is one that is
// right.
func setMembers(m map[string]any, pairs []string, like string) error {
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return usagef("%q is not member=JSON; write %s", pair, like)
		}
		if json.Valid([]byte(value)) {
			m[name] = json.RawMessage(value)
		} else {
			m[name] = value // a bare word needs no quotes
		}
	}
	return nil
}

func (f *clientFlags) read(c console, path string) ([]byte, error) {
	const most = 1 << 20
	if path != "-" {
		return readLimited(path, most)
	}
	text, err := io.ReadAll(io.LimitReader(c.In, most+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(text) > most {
		return nil, usagef("standard input holds more than %s", humanBytes(most))
	}
	return text, nil
}

func newClientCreate(c console, dial dialer) *cobra.Command {
	var f clientFlags
	var id string
	var out secretFile
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Register a client; its secret shows once",
		Example: "  keyraft client create --name orders --grant client_credentials --scope \"read write\"\n" +
			"  keyraft client create --file client.json --secret-out orders.secret",
		Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			members, err := f.members(cmd, c)
			if err != nil {
				return err
			}
			if id != "" {
				members["client_id"] = id
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), clientsPath, members)
			if err != nil {
				return err
			}
			return out.object(api, answer, "client_secret")
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "client_id (default: made by the server)")
	out.add(cmd, "secret-out", "client secret")
	return cmd
}

func newClientList(dial dialer) *cobra.Command {
	return newList(dial, "client", clientsPath, []column{
		{"ID", "client_id", nil}, {"NAME", "client_name", nil}, {"AUTH", "token_endpoint_auth_method", nil},
		{"GRANTS", "grant_types", nil}, {"SCOPE", "scope", nil}, {"ENABLED", "enabled", nil},
	})
}

func newClientGet(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show one client",
		Example: "  keyraft client get orders",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), clientPath(args[0]))
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}

func clientPath(id string) string { return clientsPath + "/" + url.PathEscape(id) }

func newClientUpdate(c console, dial dialer) *cobra.Command {
	var f clientFlags
	var replace bool
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Change members of a client; those that are not named stay",
		Example: "  keyraft client update orders --scope \"read\"\n  keyraft client update orders --enabled=false\n" +
			"  keyraft client update orders --replace --file client.json",
		Args: named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			members, err := f.members(cmd, c)
			if err != nil {
				return err
			}
			if len(members) == 0 {
				return usagef("nothing to change; name a member, such as --scope, or --file")
			}
			method := "PATCH"
			if replace {
				method = "PUT"
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: method, path: clientPath(args[0]), body: members})
			if err != nil {
				return err
			}
			return api.done(answer, "updated "+args[0])
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "replace the whole client: members that are not named go back to their defaults")
	return cmd
}

func newClientDelete(c console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a client",
		Example: "  keyraft client delete orders\n  keyraft client delete orders --yes",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := ask.confirm(c, says("Deleting "+oneLine(args[0])+" ends its secrets and every token that it got; it can't be taken back.")); err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "DELETE", path: clientPath(args[0])})
			if err != nil {
				return err
			}
			return api.done(answer, "deleted "+args[0])
		},
	}
	ask.add(cmd)
	return cmd
}

func newClientRotateSecret(dial dialer) *cobra.Command {
	var out secretFile
	var keep string
	cmd := &cobra.Command{
		Use:   "rotate-secret ID",
		Short: "Give a client a new secret; the one before stays good beside it",
		Long: `Give a client a new secret. A client has two live secrets: the new one and the one
before it. Roll the new one out, then rotate once more to end the old one, or say with
--keep how long it stays good. One that has leaked ends at once with --keep 0.`,
		Example: "  keyraft client rotate-secret orders\n  keyraft client rotate-secret orders --secret-out orders.secret --keep 1h",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			var body any
			if cmd.Flags().Changed("keep") {
				body = map[string]any{"keep": keep}
			}
			answer, err := api.post(cmd.Context(), clientPath(args[0])+"/secret", body)
			if err != nil {
				return err
			}
			return out.object(api, answer, "client_secret")
		},
	}
	cmd.Flags().StringVar(&keep, "keep", "", "how long the secret before stays good, as 10m or in seconds; 0: no longer (default: until the next rotation)")
	out.add(cmd, "secret-out", "new secret")
	return cmd
}

// secretFile is a flag that sends a secret to a file in place of the screen.
type secretFile struct{ path string }

func (s *secretFile) add(cmd *cobra.Command, flag, what string) {
	cmd.Flags().StringVar(&s.path, flag, "", "write the "+what+" to this file (mode 0600) and do not print it")
}

// take writes the member to the file and returns the answer without it.
func (s *secretFile) take(answer json.RawMessage, name string) (json.RawMessage, error) {
	if s.path == "" {
		return answer, nil
	}
	members, err := membersOf(answer)
	if err != nil {
		return nil, err
	}
	var rest strings.Builder
	rest.WriteByte('{')
	found := false
	for _, m := range members {
		if m.name == name {
			var text string
			if err := json.Unmarshal(m.value, &text); err != nil {
				return nil, fmt.Errorf("the %s of the answer is no text", name)
			}
			if err := writeSecretFile(s.path, text); err != nil {
				return nil, err
			}
			found = true
			continue
		}
		if rest.Len() > 1 {
			rest.WriteByte(',')
		}
		key, _ := json.Marshal(m.name) // a string
		rest.Write(key)
		rest.WriteByte(':')
		rest.Write(m.value)
	}
	rest.WriteByte('}')
	if !found {
		return nil, errors.New("the answer holds no " + name + ", so nothing was written to " + s.path)
	}
	return json.RawMessage(rest.String()), nil
}

func (s *secretFile) object(a *api, answer json.RawMessage, name string) error {
	rest, err := s.take(answer, name)
	if err != nil {
		return err
	}
	return a.out.object(rest)
}
