package tokens

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/internal/oauth"
)

// Login is what an access token says of how its user signed in, and for whom and what it
// speaks beside that: RFC 9068 §2.2.1, RFC 8693 §4.1, RFC 9396 §9. Empty members are left
// out.
type Login struct {
	AuthTime     int64 // seconds
	ACR          string
	AMR          []string
	Act, Details []byte // JSON

	userinfo []string
	custom   []byte // claims by the rules of tenant and client, a JSON object
}

// append writes the members, each with a comma before it.
func (l *Login) append(dst []byte) []byte {
	if l.AuthTime != 0 {
		dst = strconv.AppendInt(append(dst, `,"auth_time":`...), l.AuthTime, 10)
	}
	if l.ACR != "" {
		dst = appendString(append(dst, `,"acr":`...), l.ACR)
	}
	dst = appendList(dst, "amr", l.AMR)
	if len(l.Act) != 0 {
		dst = append(append(dst, `,"act":`...), l.Act...)
	}
	if len(l.Details) != 0 {
		dst = append(append(dst, `,"authorization_details":`...), l.Details...)
	}
	if len(l.custom) > len(`{}`) {
		dst = append(append(dst, ','), l.custom[1:len(l.custom)-1]...)
	}
	return dst
}

// loginOf reads a payload that we signed ourselves.
func loginOf(payload string) Login {
	var m struct {
		AuthTime int64           `json:"auth_time"`
		ACR      string          `json:"acr"`
		AMR      []string        `json:"amr"`
		Act      json.RawMessage `json:"act"`
		Details  json.RawMessage `json:"authorization_details"`
		Userinfo []string        `json:"userinfo_claims"`
	}
	if json.Unmarshal([]byte(payload), &m) != nil {
		return Login{} // what has these names is of another form, so it is not ours
	}
	return Login{m.AuthTime, m.ACR, m.AMR, m.Act, m.Details, m.Userinfo, customOf(payload)}
}

// customOf are the claims of a payload that say nothing of the token itself, by their
// names, as a JSON object; nil for none.
func customOf(payload string) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &all) != nil {
		return nil
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return oauth.ReservedClaim(strings.ToLower(name)) })
	var members []Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		members = append(members, Member{name, all[name]})
	}
	return appendObject(nil, members)
}

// appendConfirmation writes cnf, unless the token is a bearer token.
func appendConfirmation(dst []byte, jkt, x5t string) []byte {
	if jkt == "" && x5t == "" {
		return dst
	}
	dst = append(dst, `,"cnf":{`...)
	if jkt != "" {
		dst = appendString(append(dst, `"jkt":`...), jkt)
	}
	if x5t != "" {
		if jkt != "" {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `"x5t#S256":`...), x5t)
	}
	return append(dst, '}')
}
