package main

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

const (
	initialTokensPath      = "/admin/v1/initial-access-tokens"
	registrationPolicyPath = "/admin/v1/registration-policy"
)

// newRegistrationToken builds "keyraft client registration-token": what lets clients
// register themselves.
func newRegistrationToken(c console, dial dialer) *cobra.Command {
	return group("registration-token", "Make, list and revoke tokens by which clients register themselves",
		"  keyraft client registration-token create --uses 5",
		newRegistrationTokenCreate(dial), newRegistrationTokenList(dial), newRegistrationTokenRevoke(c, dial))
}

func newRegistrationTokenCreate(dial dialer) *cobra.Command {
	var ttl string
	var uses int
	var out secretFile
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token by which clients register themselves; it shows once",
		Long: `Make an initial access token (RFC 7591). Give it to whom you trust to register clients:
each use makes one client, within what the registration policy allows. The client manages
itself afterwards by the registration_access_token of its own answer.

    curl ISSUER/oauth2/register -H "Authorization: Bearer TOKEN" \
        -H "Content-Type: application/json" -d '{"redirect_uris": ["https://app.example/cb"]}'`,
		Example: "  keyraft client registration-token create\n  keyraft client registration-token create --ttl 1h --uses 20 --token-out initial.token",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := map[string]any{}
			if cmd.Flags().Changed("ttl") {
				body["ttl"] = ttl
			}
			if cmd.Flags().Changed("uses") {
				body["uses"] = uses
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), initialTokensPath, body)
			if err != nil {
				return err
			}
			return out.object(api, answer, "token")
		},
	}
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long it is good, as 10m or in seconds (default: 24h)")
	cmd.Flags().IntVar(&uses, "uses", 1, "how many clients may register by it; 0: any number")
	out.add(cmd, "token-out", "token")
	return cmd
}

func newRegistrationTokenList(dial dialer) *cobra.Command {
	return newList(dial, "client registration-token", initialTokensPath, []column{
		{"ID", "id", nil}, {"USES LEFT", "uses_left", usesLeft}, {"CREATED", "created_at", seconds}, {"EXPIRES", "expires_at", seconds},
	})
}

// usesLeft is any number where the answer has none.
func usesLeft(value json.RawMessage) string {
	if len(value) == 0 {
		return "any"
	}
	return cell(value)
}

func newRegistrationTokenRevoke(c console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Take one back; clients that have registered by it stay",
		Example: "  keyraft client registration-token revoke V1StGXR8_Z5jdHi6\n  keyraft client registration-token revoke V1StGXR8_Z5jdHi6 --yes",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := ask.confirm(c, says("Nobody registers a client by "+oneLine(args[0])+" any more; make another token for who still has to.")); err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "DELETE", path: initialTokensPath + "/" + url.PathEscape(args[0])})
			if err != nil {
				return err
			}
			return api.done(answer, "revoked "+args[0])
		},
	}
	ask.add(cmd)
	return cmd
}

// newRegistrationPolicy builds "keyraft client registration-policy": what clients may
// register themselves as.
func newRegistrationPolicy(c console, dial dialer) *cobra.Command {
	return group("registration-policy", "Show and change what clients may register themselves as",
		"  keyraft client registration-policy get", newRegistrationPolicyGet(dial), newRegistrationPolicySet(c, dial))
}

func newRegistrationPolicyGet(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use: "get", Short: "Show the tenant's policy", Example: "  keyraft client registration-policy get", Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), registrationPolicyPath)
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}

func newRegistrationPolicySet(c console, dial dialer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "set [MEMBER=JSON...]",
		Short: "Change members of the policy; those that are not named stay",
		Long: `Change members of the policy. A bare word needs no quotes; null puts a member back to its
default. Clients that have registered stay as they are; their own later changes are judged
by the new policy.

    open                        anybody may register, without a registration token
    grant_types                 [] is ["authorization_code", "refresh_token"]
    scopes                      besides openid, profile, email, address, phone, offline_access
    max_clients                 of the tenant that registered themselves; 0 is 1000
    max_per_address             registrations of one address in an hour at one node; 0 is 100
    unused_lifetime             a client without a token of its own goes after that, if it
                                registered while the policy was open; 0 is 30 days
    statement_issuers           whose software statements are believed:
                                [{"issuer": "...", "jwks_uri": "https://...", "alg": "PS256"}]
    require_software_statement  nobody registers without one
    assertion_audience_token_endpoint
                                assertions may name the token endpoint as audience`,
		Example: "  keyraft client registration-policy set open=true max_clients=50\n" +
			"  keyraft client registration-policy set 'scopes=[\"orders\"]' grant_types=null\n" +
			"  keyraft client registration-policy set --file policy.json",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			members, err := (&clientFlags{file: file}).members(cmd, c)
			if err != nil {
				return err
			}
			if err := setMembers(members, args, "open=true"); err != nil {
				return err
			}
			if len(members) == 0 {
				return usagef("nothing to change; name a member, such as open=true, or --file")
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			now, err := api.get(cmd.Context(), registrationPolicyPath)
			if err != nil {
				return err
			}
			whole := map[string]any{}
			if err := json.Unmarshal(now, &whole); err != nil {
				return usagef("the answer of %s is no policy; is that a Keyraft node?", registrationPolicyPath)
			}
			for name, value := range members {
				whole[name] = value
				if raw, ok := value.(json.RawMessage); value == nil || ok && strings.TrimSpace(string(raw)) == "null" {
					delete(whole, name)
				}
			}
			answer, err := api.call(cmd.Context(), request{method: "PUT", path: registrationPolicyPath, body: whole})
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "JSON file with members of the policy (- for standard input); those that are named win over it")
	return cmd
}
