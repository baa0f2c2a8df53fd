package main

import (
	"net/url"

	"github.com/spf13/cobra"
)

// userPart is one kind of what a user has left behind by signing in.
type userPart struct {
	use, short, path, what, none string
	columns                      []column
	take, taken                  string // verb that takes one away, and what it has done
	arg, about                   string
}

// userParts are sessions, consents and second factors.
func userParts() []userPart {
	return []userPart{
		{
			use: "sessions", short: "See and end the sessions of a user", path: "/sessions", what: "sessions", none: "no session stands",
			columns: []column{{"ID", "id", nil}, {"SIGNED IN", "auth_time", seconds}, {"HOW", "amr", nil}, {"ADDRESS", "address", nil}, {"BROWSER", "user_agent", nil}},
			take:    "end", taken: "has ended", arg: "SESSION", about: "End a session, and the tokens that live by it",
		},
		{
			use: "consents", short: "See and take back what a user has allowed applications", path: "/consents", what: "consents", none: "the user has allowed no application anything",
			columns: []column{{"CLIENT", "client_id", nil}, {"SCOPES", "scopes", nil}, {"SINCE", "granted_at", seconds}},
			take:    "forget", taken: "has nothing of the user any more", arg: "CLIENT", about: "Take a consent back, and revoke what the client has of the user",
		},
		{
			use: "factors", short: "See and remove the second factors of a user", path: "/credentials", what: "second factors", none: "the user has no second factor",
			columns: []column{{"ID", "id", nil}, {"KIND", "kind", nil}, {"NAME", "name", nil}, {"ADDED", "created_at", seconds}, {"USED", "used_at", seconds}},
			take:    "remove", taken: "is removed", arg: "FACTOR", about: "Remove a second factor that was lost; recovery codes go with the last one",
		},
	}
}

// newUserParts builds "keyraft user sessions", "consents" and "factors".
func newUserParts(c console, dial dialer) []*cobra.Command {
	var out []*cobra.Command
	for _, p := range userParts() {
		out = append(out, group(p.use, p.short, "  keyraft user "+p.use+" list @alice", newUserPartList(p, dial), newUserPartTake(p, c, dial)))
	}
	return out
}

func newUserPartList(p userPart, dial dialer) *cobra.Command {
	return &cobra.Command{
		Use: "list ID|@NAME", Short: "List the " + p.what + " of a user", Example: "  keyraft user " + p.use + " list @alice",
		Args: named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			path, err := userPath(cmd, api, args[0])
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), path+p.path, 0)
			if err != nil {
				return err
			}
			return api.out.table(items, p.columns, p.none)
		},
	}
}

func newUserPartTake(p userPart, c console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use: p.take + " ID|@NAME " + p.arg, Short: p.about, Example: "  keyraft user " + p.use + " " + p.take + " @alice " + p.arg,
		Args: named("ID|@NAME", p.arg),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.confirm(c, says(p.about+": "+oneLine(args[1])+" of "+oneLine(args[0])+"; it can't be taken back.")); err != nil {
				return err
			}
			return changeUser(cmd, dial, args[0], oneLine(args[1])+" "+p.taken,
				func(path string) request {
					return request{method: "DELETE", path: path + p.path + "/" + url.PathEscape(args[1])}
				})
		},
	}
	ask.add(cmd)
	return cmd
}
