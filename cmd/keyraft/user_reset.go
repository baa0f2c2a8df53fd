package main

import (
	"github.com/spf13/cobra"
)

func newUserResetPassword(dial dialer) *cobra.Command {
	var link, withdraw bool
	cmd := &cobra.Command{
		Use:   "reset-password ID|@NAME --link|--withdraw",
		Short: "Make a link by which a user sets a password of their own, once",
		Long: `Make a link by which a user sets a password, once, within an hour. It takes the place of
the one that there was. Whoever has it can take the account over but for its second
factor: send it by a way that is the user's alone. Setting the password ends every login
of before.`,
		Example: "  keyraft user reset-password @alice --link\n  keyraft user reset-password @alice --withdraw",
		Args:    named("ID|@NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if withdraw {
				return changeUser(cmd, dial, args[0], "no link opens the account of "+oneLine(args[0])+" any more",
					func(path string) request { return request{method: "DELETE", path: path + "/reset-link"} })
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			path, err := userPath(cmd, api, args[0])
			if err != nil {
				return err
			}
			answer, err := api.call(cmd.Context(), request{method: "POST", path: path + "/reset-link"})
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
	cmd.Flags().BoolVar(&link, "link", false, "make the link and show it, this once")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end the link that there is")
	cmd.MarkFlagsMutuallyExclusive("link", "withdraw")
	cmd.MarkFlagsOneRequired("link", "withdraw")
	return cmd
}
