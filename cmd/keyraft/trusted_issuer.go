package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// newTrustedIssuer builds "keyraft trusted-issuer": whom a tenant trusts to vouch for
// subjects.
func newTrustedIssuer(c console, dial dialer) *cobra.Command {
	return registry{
		noun: "trusted issuer", use: "trusted-issuer", key: "issuer", path: "/admin/v1/trusted-issuers",
		example: "https://idp.example --jwks-uri https://idp.example/jwks --map-to-user",
		members: []registryFlag{
			{"jwks-uri", "jwks_uri", "where its keys are fetched from", false},
			{"audience", "audiences", "audiences of its tokens that mean us, besides our issuer and token endpoint", true},
			{"subject-claim", "subject_claim", "claim that names the subject; sub when left out", false},
			{"only-client", "clients", "clients that may use its tokens; none: all of the tenant", true},
			{"scope", "scopes", "the most that its tokens give; none: what the client may have", true},
			{"max-lifetime", "max_lifetime", "the longest life of its tokens, such as 10m", false},
		},
		columns: []column{{"ISSUER", "issuer", nil}, {"ENABLED", "enabled", nil}, {"KEYS AT", "jwks_uri", nil}, {"CLIENTS", "clients", nil}, {"EXCHANGE", "token_exchange", nil}},
		warning: "Its tokens are refused from then on; access tokens that were given for them live until they expire.",
		flags:   addIssuerFlags, more: issuerMembers,
	}.command(c, dial)
}

func addIssuerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("jwks-file", "", "file with its JWK set (jwks)")
	f.String("pem-file", "", "file with its certificates or public keys (pem)")
	f.StringSlice("claim", nil, "REMOTE=LOCAL: a claim of its tokens that goes into ours (claim_mapping)")
	f.Bool("map-to-user", false, "its subjects are user names of the tenant (map_to_user)")
	f.Bool("token-exchange", false, "its tokens may be exchanged (token_exchange)")
	f.Bool("enabled", true, "false: it vouches for nobody (enabled)")
}

// issuerMembers are the members whose flags are of a kind of their own. Keys by one way
// take the place of those by another.
func issuerMembers(cmd *cobra.Command, members map[string]any) error {
	ways := 0
	for flag, member := range map[string]string{"jwks-file": "jwks", "jwks-uri": "jwks_uri", "pem-file": "pem"} {
		if !cmd.Flags().Changed(flag) {
			continue
		}
		ways++
		if err := issuerKeys(cmd, flag, member, members); err != nil {
			return err
		}
	}
	if ways > 1 {
		return usagef("give its keys by one of --jwks-uri, --jwks-file and --pem-file")
	}
	for flag, member := range map[string]string{"map-to-user": "map_to_user", "token-exchange": "token_exchange", "enabled": "enabled"} {
		if !cmd.Flags().Changed(flag) {
			continue
		}
		var err error
		if members[member], err = cmd.Flags().GetBool(flag); err != nil {
			return err
		}
	}
	if !cmd.Flags().Changed("claim") {
		return nil
	}
	pairs, err := cmd.Flags().GetStringSlice("claim")
	if err != nil {
		return err
	}
	mapping := []map[string]string{}
	for _, pair := range pairs {
		remote, local, ok := strings.Cut(pair, "=")
		if !ok {
			return usagef("--claim %q is not REMOTE=LOCAL", pair)
		}
		mapping = append(mapping, map[string]string{"remote": remote, "local": local})
	}
	members["claim_mapping"] = mapping
	return nil
}

func issuerKeys(cmd *cobra.Command, flag, member string, members map[string]any) error {
	update := cmd.Name() == "update"
	for _, other := range []string{"jwks", "jwks_uri", "pem"} {
		if update && other != member {
			members[other] = nil
		}
	}
	if flag == "jwks-uri" {
		return nil
	}
	file, err := cmd.Flags().GetString(flag)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return usagef("--%s: %v", flag, err)
	}
	switch {
	case member == "pem":
		members[member] = string(text)
	case !json.Valid(text):
		return usagef("--%s: %s holds no JSON", flag, file)
	default:
		members[member] = json.RawMessage(text)
	}
	return nil
}
