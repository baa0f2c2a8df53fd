package main

import "github.com/spf13/cobra"

// newList builds "keyraft NOUN list": what a tenant has of one kind, page by page.
func newList(dial dialer, noun, path string, columns []column) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the " + noun + "s of a tenant",
		Example: "  keyraft " + noun + " list\n  keyraft " + noun + " list --limit 20 --output json",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--limit %d is below 0; leave it out for all", limit)
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), path, limit)
			if err != nil {
				return err
			}
			return api.out.table(items, columns, "no "+noun+"s; make one with 'keyraft "+noun+" create'")
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "show at most so many (0: all)")
	return cmd
}
