package grants

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// Bounds of authorization_details (RFC 9396).
const (
	maxDetails      = 16
	maxDetailsSize  = 8 << 10 // bytes
	maxDetailsDepth = 6
)

// Details reads the parameter authorization_details (RFC 9396 §2): a list of objects, each
// of a type that the client is registered for and the tenant knows. The answer is the
// list in its shortest form; nil for an empty text. The error is
// invalid_authorization_details.
func Details(tenant *state.Tenant, client *state.Client, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	var list []json.RawMessage
	if len(text) > maxDetailsSize || !identity.StrictJSON([]byte(text), maxDetailsDepth) || json.Unmarshal([]byte(text), &list) != nil || len(list) == 0 || len(list) > maxDetails {
		return nil, oauth.InvalidAuthorizationDetails.Withf("authorization_details must be a JSON array of 1 to %d objects, at most %d bytes and %d levels, in which no name comes twice", maxDetails, maxDetailsSize, maxDetailsDepth)
	}
	for _, one := range list {
		kind := detailsType(one)
		if kind == "" {
			return nil, oauth.InvalidAuthorizationDetails.With("each of authorization_details must be an object with a type")
		}
		if !slices.Contains(client.GetDetailsTypes(), kind) || !slices.Contains(tenant.GetSettings().GetDetailsTypes(), kind) {
			return nil, oauth.InvalidAuthorizationDetails.Withf("the type %.100s of authorization_details is not known here, or the client is not registered for it", kind)
		}
	}
	var short bytes.Buffer
	if err := json.Compact(&short, []byte(text)); err != nil {
		return nil, err
	}
	return short.Bytes(), nil
}

// detailsType is the type of one object; "" for what is none.
func detailsType(one json.RawMessage) string {
	var object map[string]json.RawMessage // a map, since a struct takes names of another case
	var kind string
	if json.Unmarshal(one, &object) != nil || json.Unmarshal(object["type"], &kind) != nil {
		return ""
	}
	return kind
}

// ofDetails are those of the granted details that a token request asks for, or all of
// them (RFC 9396 §6): an object is asked for as it was granted, or not at all.
func ofDetails(in *Input, granted []byte) ([]byte, error) {
	asked, err := Details(in.Tenant, in.Client, in.Form.Get("authorization_details"))
	if err != nil || asked == nil {
		return granted, err
	}
	var had, want []json.RawMessage
	if len(granted) > 0 {
		if err := json.Unmarshal(granted, &had); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(asked, &want); err != nil {
		return nil, err
	}
	for _, one := range want {
		if !slices.ContainsFunc(had, func(h json.RawMessage) bool { return bytes.Equal(h, one) }) {
			return nil, oauth.InvalidAuthorizationDetails.With("authorization_details asks for more than was granted; ask for some of its objects as they are, or leave it out")
		}
	}
	return asked, nil
}
