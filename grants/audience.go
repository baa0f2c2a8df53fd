package grants

import (
	"net/url"
	"slices"
	"strings"

	"github.com/keyraft/keyraft/internal/oauth"
)

// maxTargets bounds the resources and audiences of one request.
const maxTargets = 16

// Targets is targets for the authorization endpoint.
func Targets(form Form, registered []string) ([]string, error) { return targets(form, registered) }

// targets returns the audience that a request names: its resource (RFC 8707 §2) and
// audience (RFC 8693 §2.1) parameters, each registered for the client, in order,
// each once. Nil when it names none. The error is invalid_target.
func targets(form Form, registered []string) ([]string, error) {
	resources, audiences := form.All("resource"), form.All("audience")
	if len(resources) == 0 && len(audiences) == 0 {
		return nil, nil
	}
	if len(resources)+len(audiences) > maxTargets {
		return nil, oauth.InvalidTarget.Withf("at most %d resources and audiences in one request", maxTargets)
	}
	var out []string
	for i, target := range slices.Concat(resources, audiences) {
		if i < len(resources) && !resourceURI(target) {
			return nil, oauth.InvalidTarget.With("resource must be an absolute URI without a fragment")
		}
		if !slices.Contains(registered, target) {
			return nil, oauth.InvalidTarget.Withf("%.200s is not registered as a resource of the client", target)
		}
		if !slices.Contains(out, target) {
			out = append(out, target)
		}
	}
	return out, nil
}

func resourceURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && !strings.Contains(s, "#")
}

// ofGrant is the audience of a token of a grant that was allowed before: what the
// request names of it, or all of it (RFC 8707 §2.2). Where it was allowed for no
// resource in particular, the request may name what its client may have.
func ofGrant(in *Input, allowed []string) ([]string, error) {
	if len(allowed) == 0 {
		return in.Audience, nil
	}
	named, err := targets(in.Form, allowed)
	if err != nil {
		return nil, err
	}
	if named == nil {
		named = allowed
	}
	return named, nil
}
