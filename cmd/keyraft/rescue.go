package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// newSnapshotRescue builds the command for a cluster that has lost its majority
// for good: what one node still holds becomes a snapshot.
func newSnapshotRescue(c console, d deps) *cobra.Command {
	return &cobra.Command{
		Use:   "rescue DATA-DIR FILE",
		Short: "Make a snapshot of a stopped node's data folder; asks no node",
		Long: `Make a snapshot of what the data folder of a stopped node holds, for a cluster whose
majority is gone for good. The folder is only read: the work is done on a copy beside
FILE, which needs as much room as the folder.

The last entries of the node's log may never have been committed; they count, since
nobody is left to ask; what only the lost nodes had is missing. Of several folders
take the one with the highest last_term, then last_index. Restore the snapshot with
--foreign into a new cluster that has the same sealing key; never start the old
nodes again.`,
		Example: "  keyraft operator snapshot rescue /var/lib/keyraft rescued.snap",
		Args:    named("DATA-DIR", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := newPrinter(cmd, c.Out)
			if err != nil {
				return err
			}
			if d.RescueSnapshot == nil || d.InspectSnapshot == nil {
				return errNoInspect
			}
			found, err := rescueInto(c, d, args[0], args[1])
			if err != nil {
				return err
			}
			text, err := json.Marshal(found)
			if err != nil {
				return fmt.Errorf("encode the result: %w", err)
			}
			return out.object(text)
		},
	}
}

func rescueInto(c console, d deps, dir, path string) (found any, err error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, usagef("%v; name the data folder of a stopped node", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(path), ".keyraft-rescue-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder beside %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(scratch) }() // a copy
	err = writeWhole(path, func(f *os.File) error {
		pr := startProgress(c.Err, c.Redraw, "reading "+dir, 0, usualPace())
		found, err = d.RescueSnapshot(dir, scratch, f)
		pr.end()
		if err != nil {
			return err
		}
		size, err := f.Seek(0, io.SeekCurrent)
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err != nil {
			return fmt.Errorf("read %s again: %w", path, err)
		}
		return checked(c, usualPace(), f, path, size, d.InspectSnapshot)
	})
	return found, err
}
