package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// question is what every command asks that can't be taken back: at a terminal,
// unless --yes is given. A script has no terminal and is not asked; what would
// break the cluster is refused by the server, whoever calls.
type question struct{ yes bool }

func (q *question) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&q.yes, "yes", "y", false, "do not ask (without a terminal nothing is asked)")
}

// confirm shows the consequence and asks, where somebody can answer.
func (q *question) confirm(c console, consequenceOf func() (string, error)) error {
	if q.yes || !c.Ask {
		return nil
	}
	consequence, err := consequenceOf()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.Err, "%s\nGo on? [y/N] ", consequence); err != nil {
		return fmt.Errorf("ask for confirmation: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(c.In, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed; nothing was changed")
}

// says is a consequence that is known beforehand.
func says(text string) func() (string, error) { return func() (string, error) { return text, nil } }
