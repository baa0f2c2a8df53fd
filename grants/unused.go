package grants

import (
	"context"
	"fmt"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
)

// keep says of a client that would go unused that it is in use, before it has its first
// token: no token is of a client that has gone.
func (p *Pipeline) keep(ctx context.Context, client *state.Client) error {
	if client.GetUnusedUntil() == 0 {
		return nil
	}
	result, err := p.cfg.Propose(ctx, &command.UseClient{Tenant: client.GetTenant(), Id: client.GetId()})
	if err != nil {
		return fmt.Errorf("note that client %q is in use: %w", client.GetId(), err)
	}
	switch result.Reject {
	case command.Accepted:
		return nil
	case command.NotFound:
		return oauth.InvalidClient.With("the client is gone, for it was not used in time; register it again")
	}
	return fmt.Errorf("note that client %q is in use: %w", client.GetId(), result.Reject)
}
