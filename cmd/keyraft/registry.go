package main

import (
	"cmp"
	"encoding/base64"
	"strings"

	"github.com/spf13/cobra"
)

// registry is what is the CLI's own of scopes, roles and groups.
type registry struct {
	noun, path, example string
	members             []registryFlag
	columns             []column
	forced              bool   // a removal may be forced
	warning             string // before a removal

	use, key string                                                 // "": the noun; name
	flags    func(*cobra.Command)                                   // more of them
	more     func(cmd *cobra.Command, members map[string]any) error // what these set
}

// word is the command's own.
func (g registry) word() string { return cmp.Or(g.use, g.noun) }

// registryFlag sets one member: a list of names, or a text.
type registryFlag struct {
	flag, member, help string
	list               bool
}

// newScope builds "keyraft scope".
func newScope(c console, dial dialer) *cobra.Command {
	return registry{
		noun: "scope", path: "/admin/v1/scopes", example: "orders:read --role clerk --display-name \"Read orders\"",
		members: []registryFlag{
			{"display-name", "display_name", "what the consent page calls it", false},
			{"description", "description", "what the consent page says of it", false},
			{"role", "roles", "roles of which a user needs one; none: everybody", true},
			{"include", "includes", "scopes that it implies", true},
			{"claim", "claims", "claims that it brings", true},
		},
		columns: []column{{"NAME", "name", nil}, {"ROLES", "roles", nil}, {"INCLUDES", "includes", nil}, {"DESCRIPTION", "description", nil}},
		warning: "A client that is registered for it may then ask for it whatever the user's roles, unless the tenant refuses unknown scopes.",
	}.command(c, dial)
}

// newRole builds "keyraft role".
func newRole(c console, dial dialer) *cobra.Command {
	return registry{
		noun: "role", path: "/admin/v1/roles", example: "clerk --description \"Takes orders\"",
		members: []registryFlag{{"description", "description", "what it is for", false}},
		columns: []column{{"NAME", "name", nil}, {"DESCRIPTION", "description", nil}},
		forced:  true, warning: "Users who have it get no scope by it any more.",
	}.command(c, dial)
}

// newGroup builds "keyraft group".
func newGroup(c console, dial dialer) *cobra.Command {
	return registry{
		noun: "group", path: "/admin/v1/groups", example: "staff --role clerk",
		members: []registryFlag{{"description", "description", "what it is for", false}, {"role", "roles", "roles of its members", true}},
		columns: []column{{"NAME", "name", nil}, {"ROLES", "roles", nil}, {"DESCRIPTION", "description", nil}},
		warning: "Its members lose the roles that they have by it.",
	}.command(c, dial)
}

func (g registry) command(c console, dial dialer) *cobra.Command {
	cmd := group(g.word(), "Register and manage the "+g.noun+"s of a tenant", "  keyraft "+g.word()+" list",
		g.write(dial, "create"), g.list(dial), g.get(dial), g.write(dial, "update"), g.delete(c, dial))
	addClientFlags(cmd)
	return cmd
}

// at is the path of one name: as base64url, whatever it holds.
func (g registry) at(name string) string {
	return g.path + "/~" + base64.RawURLEncoding.EncodeToString([]byte(name))
}

// write builds create and update, which take the same members.
func (g registry) write(dial dialer, verb string) *cobra.Command {
	create := verb == "create"
	short := "Register a " + g.noun
	example := "  keyraft " + g.word() + " create " + g.example
	if !create {
		short = "Change members of a " + g.noun + "; those that are not named stay"
		example = "  keyraft " + g.word() + " update " + g.example
	}
	cmd := &cobra.Command{Use: verb + " NAME", Short: short, Example: example, Args: named("NAME")}
	for _, m := range g.members {
		if m.list {
			cmd.Flags().StringSlice(m.flag, nil, m.help+" ("+m.member+")")
		} else {
			cmd.Flags().String(m.flag, "", m.help+" ("+m.member+")")
		}
	}
	if g.flags != nil {
		g.flags(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		members, err := g.given(cmd)
		if err == nil && g.more != nil {
			err = g.more(cmd, members)
		}
		if err != nil {
			return err
		}
		if !create && len(members) == 0 {
			return usagef("nothing to change; name a member; see --help")
		}
		api, err := dial(cmd)
		if err != nil {
			return err
		}
		r := request{method: "PATCH", path: g.at(args[0]), body: members}
		if create {
			members[cmp.Or(g.key, "name")] = args[0]
			r = request{method: "POST", path: g.path, body: members}
		}
		answer, err := api.call(cmd.Context(), r)
		if err != nil {
			return err
		}
		return api.done(answer, verb+"d "+args[0])
	}
	return cmd
}

// given are the members whose flags were given.
func (g registry) given(cmd *cobra.Command) (map[string]any, error) {
	out := map[string]any{}
	for _, m := range g.members {
		if !cmd.Flags().Changed(m.flag) {
			continue
		}
		var err error
		if m.list {
			out[m.member], err = cmd.Flags().GetStringSlice(m.flag)
		} else {
			out[m.member], err = cmd.Flags().GetString(m.flag)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (g registry) list(dial dialer) *cobra.Command { return newList(dial, g.word(), g.path, g.columns) }

func (g registry) get(dial dialer) *cobra.Command {
	name, _, _ := strings.Cut(g.example, " ")
	return &cobra.Command{
		Use: "get NAME", Short: "Show one " + g.noun, Example: "  keyraft " + g.word() + " get " + name, Args: named("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), g.at(args[0]))
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}

func (g registry) delete(c console, dial dialer) *cobra.Command {
	var ask question
	var force bool
	name, _, _ := strings.Cut(g.example, " ")
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a " + g.noun, Example: "  keyraft " + g.word() + " delete " + name + " --yes", Args: named("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := ask.confirm(c, says("Deleting "+oneLine(args[0])+": "+g.warning)); err != nil {
				return err
			}
			path := g.at(args[0])
			if force {
				path += "?force=true"
			}
			answer, err := api.call(cmd.Context(), request{method: "DELETE", path: path})
			if err != nil {
				return err
			}
			return api.done(answer, "deleted "+args[0])
		},
	}
	ask.add(cmd)
	if g.forced {
		cmd.Flags().BoolVar(&force, "force", false, "even if a scope or a group names it; such a scope stays closed")
	}
	return cmd
}

// newTenant builds "keyraft tenant": the settings of tenants.
func newTenant(dial dialer) *cobra.Command {
	cmd := group("tenant", "Show tenants and change their settings", "  keyraft tenant list",
		newTenantList(dial), newTenantGet(dial), newTenantSet(dial))
	addClientFlags(cmd)
	return cmd
}

const tenantsPath = "/admin/v1/tenants"

func newTenantList(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tenants", Example: "  keyraft tenant list", Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), tenantsPath, 0)
			if err != nil {
				return err
			}
			return api.out.table(items, []column{{"ID", "id", nil}, {"NAME", "display_name", nil}, {"ENABLED", "enabled", nil}, {"ISSUER", "issuer", nil}}, "no tenants")
		},
	}
}

func newTenantGet(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show one tenant and its settings", Example: "  keyraft tenant get default", Args: named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), tenantsPath+"/"+args[0])
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}

func newTenantSet(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use: "set ID MEMBER=JSON...", Short: "Change settings of a tenant; null puts one back to its default",
		Long: `Change settings of a tenant. A bare word needs no quotes; null puts a setting back to
its default. The settings are described in docs/scopes.md and docs/openapi.yaml.`,
		Example: "  keyraft tenant set default refresh_token_lifetime=24h narrow_scopes=true\n" +
			"  keyraft tenant set default 'scope_patterns=[\"device_.*\"]' refresh_grace=null",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			members := map[string]any{}
			if err := setMembers(members, args[1:], "narrow_scopes=true"); err != nil {
				return err
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "PATCH", path: tenantsPath + "/" + args[0], body: members})
			if err != nil {
				return err
			}
			return api.done(answer, "updated "+args[0])
		},
	}
}
