package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const clusterPath = "/admin/v1/cluster"

// newOperator builds "keyraft operator": what runs a cluster.
func newOperator(io console, dial dialer, d deps) *cobra.Command {
	cmd := group("operator", "Run a cluster: members, snapshots, keys", "  keyraft operator members",
		newMembers(dial),
		newStatus(dial),
		newChecksum(dial),
		newJoinToken(dial),
		newRemove(io, dial),
		newPromote(dial),
		newTransferLeader(dial),
		group("snapshot", "Save, restore and look into snapshots", "  keyraft operator snapshot save cluster.snap",
			newSnapshotSave(dial, d.InspectSnapshot), newSnapshotRestore(io, dial, d.InspectSnapshot),
			newSnapshotInspect(io, d.InspectSnapshot), newSnapshotRescue(io, d)),
		group("key", "Signing keys", "  keyraft operator key list", newKeyList(dial), newKeyRotate(io, dial)),
		group("gossip-key", "Keys of the gossip pools", "  keyraft operator gossip-key rotate", newGossipKeyRotate(dial)),
	)
	addClientFlags(cmd)
	return cmd
}

func newMembers(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the nodes of the cluster",
		Example: "  keyraft operator members\n  keyraft operator members --output json | jq '.items[] | select(.role==\"leader\") | .id'",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			items, err := api.list(cmd.Context(), clusterPath+"/members", 0)
			if err != nil {
				return err
			}
			return api.out.table(items, []column{
				{"ID", "id", nil}, {"ROLE", "role", nil}, {"SUFFRAGE", "suffrage", nil}, {"STATE", "state", nil},
				{"API", "api_addr", nil}, {"CLUSTER", "cluster_addr", nil}, {"APPLIED", "applied_index", nil},
				{"LAST CONTACT", "last_contact_ms", milliseconds},
			}, "no members")
		},
	}
}

func newStatus(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show the state of the node that answers; exit code 1 when it is not healthy",
		Example: "  keyraft operator status\n  keyraft operator status --addr https://node2:9443 --output json",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), clusterPath+"/status")
			if err != nil {
				return err
			}
			if err := api.out.object(answer); err != nil {
				return err
			}
			var status struct {
				Healthy *bool `json:"healthy"`
			}
			if json.Unmarshal(answer, &status) == nil && status.Healthy != nil && !*status.Healthy {
				return errors.New("the cluster is not healthy; 'keyraft operator members' shows which node is missing")
			}
			return nil
		},
	}
}

func newChecksum(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "checksum",
		Short:   "Show the checksum of all tables; equal at every node with the same applied index",
		Example: "  keyraft operator checksum --addr https://node2:9443",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.get(cmd.Context(), clusterPath+"/checksum")
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
}

func newJoinToken(dial dialer) *cobra.Command {
	var body struct {
		TTL      string `json:"ttl"`
		Suffrage string `json:"suffrage"`
	}
	var nonVoter bool
	cmd := &cobra.Command{
		Use:     "join-token",
		Short:   "Make a single-use token with which one node may join",
		Example: "  keyraft operator join-token\n  keyraft operator join-token --non-voter --ttl 1h",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body.Suffrage = "voter"
			if nonVoter {
				body.Suffrage = "nonvoter"
			}
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), clusterPath+"/join-tokens", body)
			if err != nil {
				return err
			}
			return api.out.object(answer)
		},
	}
	cmd.Flags().StringVar(&body.TTL, "ttl", "10m", "how long the token may be used, as 10m or in seconds")
	cmd.Flags().BoolVar(&nonVoter, "non-voter", false, "for an issuer node that counts in no quorum")
	return cmd
}

func newRemove(io console, dial dialer) *cobra.Command {
	var ask question
	var force bool
	cmd := &cobra.Command{
		Use:     "remove ID",
		Short:   "Remove a node from the cluster",
		Example: "  keyraft operator remove node3\n  keyraft operator remove node3 --yes",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := ask.confirm(io, func() (string, error) { return removalConsequence(cmd.Context(), api, args[0]) }); err != nil {
				return err
			}
			path := clusterPath + "/members/" + url.PathEscape(args[0])
			if force {
				path += "?force=true"
			}
			answer, err := api.call(cmd.Context(), request{method: "DELETE", path: path})
			if err != nil {
				return err
			}
			return api.done(answer, "removed "+args[0]+"; its data folder cannot rejoin, and may be deleted")
		},
	}
	ask.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if the rest has no quorum; writes then stop until nodes come back")
	return cmd
}

// removalConsequence says what removing a node means, from the members as they
// are now; a mistyped id is refused here.
func removalConsequence(ctx context.Context, a *api, id string) (string, error) {
	items, err := a.list(ctx, clusterPath+"/members", 0)
	if err != nil {
		return "", err
	}
	type node struct{ ID, Role, Suffrage, State string }
	var ids []string
	var target *node
	voters := 0
	for _, item := range items {
		var n node
		if err := json.Unmarshal(item, &n); err != nil {
			return "", fmt.Errorf("the list of members can't be read: %w", err)
		}
		ids = append(ids, n.ID)
		if n.Suffrage == "voter" {
			voters++
		}
		if n.ID == id {
			target = &n
		}
	}
	if target == nil {
		slices.Sort(ids)
		return "", fmt.Errorf("there is no node %s; the members are %s", oneLine(id), oneLine(strings.Join(ids, ", ")))
	}
	text := "Removing " + oneLine(id)
	if target.Suffrage != "voter" {
		text += ", which does not vote, changes no quorum."
	} else {
		left := voters - 1
		text += fmt.Sprintf(" leaves %d of %d voters", left, voters)
		if left == 0 {
			text += ": the cluster ends."
		} else {
			text += fmt.Sprintf(": writes need %d of them, so %d more may fail.", left/2+1, left-left/2-1)
		}
	}
	if target.Role == "leader" {
		text += " It is the leader, so leadership moves first."
	}
	return text + " It stops serving, and its data folder cannot rejoin without a new token.", nil
}

func newPromote(dial dialer) *cobra.Command {
	return &cobra.Command{
		Use:     "promote ID",
		Short:   "Make a voter of a non-voting node",
		Example: "  keyraft operator promote issuer2",
		Args:    named("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), clusterPath+"/members/"+url.PathEscape(args[0])+"/promote", nil)
			if err != nil {
				return err
			}
			return api.done(answer, args[0]+" votes now")
		},
	}
}

func newTransferLeader(dial dialer) *cobra.Command {
	var body struct {
		ID string `json:"id,omitempty"`
	}
	cmd := &cobra.Command{
		Use:     "transfer-leader",
		Short:   "Hand leadership to another voter",
		Example: "  keyraft operator transfer-leader\n  keyraft operator transfer-leader --to node2",
		Args:    named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := dial(cmd)
			if err != nil {
				return err
			}
			answer, err := api.post(cmd.Context(), clusterPath+"/transfer-leader", body)
			if err != nil {
				return err
			}
			return api.done(answer, "leadership was handed over")
		},
	}
	cmd.Flags().StringVar(&body.ID, "to", "", "node that shall lead (default: the voter that is furthest)")
	return cmd
}

// done prints an answer, or the sentence when there is none.
func (a *api) done(answer json.RawMessage, sentence string) error {
	switch {
	case len(answer) > 0 && string(answer) != "{}" && string(answer) != "null":
		return a.out.object(answer)
	case a.out.json:
		return a.out.value(map[string]bool{"ok": true})
	}
	return a.out.write(oneLine(sentence) + "\n")
}
