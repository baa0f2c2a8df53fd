package main

import (
	"github.com/spf13/cobra"
)

func newUserUpdate(c console, dial dialer) *cobra.Command {
	var f userFlags
	var name string
	cmd := &cobra.Command{
		Use:   "update ID|@NAME",
		Short: "Change members of a user; those that are not named stay",
		Example: "  keyraft user update @alice --role staff,admin\n  keyraft user update @alice --enabled=false\n" +
			"  keyraft user update @alice --username alice.b",
		Args: named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			members, err := f.members(cmd, c)
			if err != nil {
				return err
			}
			if name != "" {
				members["username"] = name
			}
			if len(members) == 0 {
				return usagef("nothing to change; name a member, such as --email, or --file")
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			path, err := userPath(cmd, api, args[0])
			if err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "PATCH", path: path, body: members})
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&name, "username", "", "another user name")
	return cmd
}

func newUserSetPassword(c console, dial dialer) *cobra.Command {
	var file string
	var must bool
	cmd := &cobra.Command{
		Use:   "set-password ID|@NAME",
		Short: "Give a user a new password; their logins of before end",
		Long: `Give a user a new password, which ends every session and token of theirs. It is asked
for at a terminal; a script gives it in a file (mode 0600) or on standard input.`,
		Example: "  keyraft user set-password @alice\n  keyraft user set-password @alice --password-file - < alice.password\n  keyraft user set-password @alice --must-change",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := passwordFrom(c, file)
			if err != nil {
				return err
			}
			return changeUser(cmd, dial, args[0], "the password was changed; logins of before have ended",
				func(path string) request {
					body := map[string]any{"password": password}
					if must {
						body["must_change_password"] = true
					}
					return request{method: "POST", path: path + "/password", body: body}
				})
		},
	}
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password (- for standard input)")
	cmd.Flags().BoolVar(&must, "must-change", false, "let the user set another one when they sign in with it")
	return cmd
}

// changeUser makes one call on a user and says what came of it.
func changeUser(cmd *cobra.Command, dial dialer, who, done string, call func(path string) request) error {
	api, err := dial(cmd)
	if err != nil {
		return err
	}
	path, err := userPath(cmd, api, who)
	if err != nil {
		return err
	}
	answer, err := api.call(cmd.Context(), call(path))
	if err != nil {
		return err
	}
	return api.done(answer, done)
}

func newUserUnlock(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "unlock ID|@NAME",
		Short:   "Forget the wrong passwords that locked a user",
		Example: "  keyraft user unlock @alice",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeUser(cmd, dial, args[0], oneLine(args[0])+" may try again",
				func(path string) request { return request{method: "DELETE", path: path + "/lockout"} })
		},
	}
}

func newUserEndLogins(c console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:     "end-logins ID|@NAME",
		Short:   "End every session and token of a user",
		Example: "  keyraft user end-logins @alice",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.confirm(c, says("This signs "+oneLine(args[0])+" out everywhere and ends every token of theirs; it can't be taken back.")); err != nil {
				return err
			}
			return changeUser(cmd, dial, args[0], "the logins of "+oneLine(args[0])+" have ended",
				func(path string) request { return request{method: "DELETE", path: path + "/logins"} })
		},
	}
	ask.add(cmd)
	return cmd
}

func newUserDelete(c console, dial dialer) *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:     "delete ID|@NAME",
		Short:   "Delete a user and revoke their tokens",
		Example: "  keyraft user delete @alice\n  keyraft user delete @alice --yes",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.confirm(c, says("Deleting "+oneLine(args[0])+" ends every login and token of theirs; it can't be taken back.")); err != nil {
				return err
			}
			return changeUser(cmd, dial, args[0], "deleted "+oneLine(args[0]),
				func(path string) request { return request{method: "DELETE", path: path} })
		},
	}
	ask.add(cmd)
	return cmd
}
