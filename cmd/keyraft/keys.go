package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
)

func newKeyList(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the signing keys, public parts only",
		Example: "  keyraft operator key list\n  keyraft operator key list --output json",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), "/admin/v1/keys", 0)
			if err != nil {
				return err
			}
			return api.out.table(items, []column{
				{"KID", "kid", nil}, {"ALG", "alg", nil}, {"STATE", "state", nil},
				{"CREATED", "created_at", seconds}, {"SIGNS FROM", "active_at", seconds}, {"RETIRES", "retires_at", seconds},
			}, "no keys")
		},
	}
}

// seconds shows an instant in seconds since 1970.
func seconds(value json.RawMessage) string {
	var at int64
	if err := json.Unmarshal(value, &at); err != nil || at <= 0 || at > 253402300799 { // year 9999
		return "-"
	}
	return time.Unix(at, 0).UTC().Format(time.RFC3339)
}

func newKeyRotate(io console, dial dialer) *cobra.Command {
	var ask question
	var body struct {
		Alg       string `json:"alg,omitempty"`
		Emergency bool   `json:"emergency,omitempty"`
	}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Let the next signing key take over and publish one after it",
		Long: `Let the next signing key take over and publish one after it. The old key stays in
the JWKS until the last token that it signed has expired. With --emergency it is
revoked at once: every token that it signed is refused, here and at the gateways.`,
		Example: "  keyraft operator key rotate\n  keyraft operator key rotate --alg RS256\n  keyraft operator key rotate --emergency",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if body.Emergency {
				if err := ask.confirm(io, says("Every token that the present key signed is refused from now on, at nodes and gateways; their clients must get new ones.")); err != nil {
					return err
				}
			}
			answer, err := api.post(cmd.Context(), "/admin/v1/keys/rotate", body)
			if err != nil {
				return err
			}
			return api.done(answer, "the signing key was rotated")
		},
	}
	cmd.Flags().StringVar(&body.Alg, "alg", "", "rotate the key of this algorithm: ES256, EdDSA, PS256 or RS256 (default: the default one)")
	ask.add(cmd)
	cmd.Flags().BoolVar(&body.Emergency, "emergency", false, "the key is compromised: revoke what it signed")
	return cmd
}

func newGossipKeyRotate(dial dialer) *cobra.Command {
	var body struct {
		Pool string `json:"pool,omitempty"`
	}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Give a gossip pool a new key",
		Long: `Give a gossip pool a new key: it is installed everywhere, then used, then the old
one is dropped. Gateways get theirs through the API.`,
		Example: "  keyraft operator gossip-key rotate\n  keyraft operator gossip-key rotate --pool gateways",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if body.Pool != "" && body.Pool != "nodes" && body.Pool != "gateways" {
				return usagef("--pool %q is not known; use nodes or gateways", body.Pool)
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), clusterPath+"/gossip-keys/rotate", body)
			if err != nil {
				return err
			}
			return api.done(answer, "the gossip key was rotated")
		},
	}
	cmd.Flags().StringVar(&body.Pool, "pool", "", "nodes or gateways (default: both)")
	return cmd
}
