package main

import (
	"context"
	"errors"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keyraft/keyraft/internal/config"
)

const gatewaysPath = "/admin/v1/gateways"

// newGateway builds "keyraft gateway", the reference gateway, and below it the
// commands by which gateways are registered.
func newGateway(io console, dial dialer, runGateway func(context.Context, config.Gateway, config.Settings, console) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the reference gateway, or register gateways",
		Long: `Run the reference gateway: GET /validate answers 204, 401 or 403 for the token of a
request, for auth_request of nginx and the like, and learns of revocations by itself.

Every setting is a flag, a variable KEYRAFT_GATEWAY_... and a key of the YAML file.`,
		Example: `  keyraft gateway register edge1 --credential-out edge1.credential
  keyraft gateway --nodes http://127.0.0.1:9763 --credential-file edge1.credential --listen 127.0.0.1:9768`,
		SuggestionsMinimumDistance: 2,
	}
	settings := addSettings(cmd, config.GatewayFields(), "KEYRAFT_GATEWAY_CONFIG")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return groupRun(cmd, args)
		}
		cfg, decided, err := config.LoadGateway(settings.sources(io))
		if err != nil {
			return err
		}
		if runGateway == nil {
			return errors.New("this build has no gateway; use a released binary")
		}
		return decided.Locate(runGateway(cmd.Context(), cfg, decided, io))
	}
	for _, child := range []*cobra.Command{newGatewayRegister(dial), newGatewayList(dial), newGatewayDelete(io, dial)} {
		addClientFlags(child)
		cmd.AddCommand(child)
	}
	return cmd
}

func newGatewayRegister(dial dialer) *cobra.Command {
	var body struct {
		Name    string   `json:"name"`
		Tenants []string `json:"tenants,omitempty"`
	}
	var credential, gossipKey secretFile
	cmd := &cobra.Command{
		Use:   "register NAME",
		Short: "Register a gateway; its credential shows once",
		Example: "  keyraft gateway register edge1 --credential-out edge1.credential --gossip-key-out gossip.key\n" +
			"  keyraft gateway register edge2 --tenants default,acme --output json",
		Args: named("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), gatewaysPath, body)
			if err != nil {
				return err
			}
			rest, err := credential.take(answer, "credential")
			if err != nil {
				return err
			}
			return gossipKey.object(api, rest, "gossip_key")
		},
	}
	cmd.Flags().StringSliceVar(&body.Tenants, "tenants", nil, "tenants whose tokens it may judge (default: all)")
	credential.add(cmd, "credential-out", "credential")
	gossipKey.add(cmd, "gossip-key-out", "gossip key")
	return cmd
}

func newGatewayList(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the gateways and how far each has got",
		Example: "  keyraft gateway list\n  keyraft gateway list --output json",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), gatewaysPath, 0)
			if err != nil {
				return err
			}
			return api.out.table(items, []column{
				{"ID", "id", nil}, {"INSTANCE", "instance", nil}, {"ADDR", "addr", nil}, {"EPOCH", "epoch", nil}, {"HEAD", "head", nil},
				{"HEAD AGE", "head_age_ms", milliseconds}, {"LAST SEEN", "last_seen_ms", milliseconds},
			}, "no gateways; register one with 'keyraft gateway register NAME'")
		},
	}
}

func newGatewayDelete(io console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:     "delete ID",
		Short:   "Delete a gateway: its credential ends, and no receipt waits for it",
		Example: "  keyraft gateway delete edge1\n  keyraft gateway delete edge1 --yes",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := ask.confirm(io, says("Deleting "+oneLine(args[0])+" ends its credential: every instance that uses it stops hearing of revocations, and refuses requests or goes on without news, as its fail_mode says.")); err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "DELETE", path: gatewaysPath + "/" + url.PathEscape(args[0])})
			if err != nil {
				return err
			}
			return api.done(answer, "deleted "+args[0])
		},
	}
	ask.add(cmd)
	return cmd
}
