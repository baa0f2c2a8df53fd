package tokens

import (
	"encoding/json"
	"strconv"
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
	return Login{m.AuthTime, m.ACR, m.AMR, m.Act, m.Details, m.Userinfo}
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
