package clients

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	// maxStatement bounds a software statement, in bytes: it is kept with its client.
	maxStatement = 8 << 10
	// maxStatementIssuers bounds those of one tenant.
	maxStatementIssuers = 64
	maxSoftwareIDs      = 1024 // of one issuer

	statementMember = "software_statement"
)

// StatementIssuer is one whose software statements (RFC 7591 §2.3) a tenant believes.
type StatementIssuer struct {
	Issuer  string          `json:"issuer"`             // iss, byte for byte
	JWKS    json.RawMessage `json:"jwks,omitempty"`     // its keys, or
	JWKSURI string          `json:"jwks_uri,omitempty"` // where they are fetched from
	// Alg is what its statements are signed with; "": that of each key.
	Alg string `json:"alg,omitempty"`
	// SoftwareIDs are those that it may speak of; empty: all.
	SoftwareIDs []string `json:"software_ids,omitempty"`
}

// StatementIssuersOf are those of a tenant's policy.
func StatementIssuersOf(p *state.RegistrationPolicy) []StatementIssuer {
	out := make([]StatementIssuer, 0, len(p.GetStatementIssuers()))
	for _, i := range p.GetStatementIssuers() {
		out = append(out, StatementIssuer{i.GetIssuer(), i.GetJwks(), i.GetJwksUri(), i.GetAlg(), i.GetSoftwareIds()})
	}
	return out
}

// StatementIssuers checks those of a policy and makes their records. Errors: *FieldError.
func (r *Registry) StatementIssuers(list []StatementIssuer) ([]*state.StatementIssuer, error) {
	const field = "statement_issuers"
	if len(list) > maxStatementIssuers {
		return nil, bad(field, "at most %d", maxStatementIssuers)
	}
	var out []*state.StatementIssuer
	for _, in := range list {
		switch {
		case in.Issuer == "" || !plain(in.Issuer):
			return nil, bad(field, "issuer: 1 to %d bytes without control characters, as iss of its statements", maxText)
		case slices.ContainsFunc(out, func(i *state.StatementIssuer) bool { return i.GetIssuer() == in.Issuer }):
			return nil, bad(field, "%.128q is there twice", in.Issuer)
		case in.Alg != "" && !slices.Contains(verify.Algs(), in.Alg):
			return nil, bad(field, "alg of %.128q: one of %v", in.Issuer, verify.Algs())
		case len(in.SoftwareIDs) > maxSoftwareIDs || slices.ContainsFunc(in.SoftwareIDs, func(s string) bool { return s == "" || !plain(s) }):
			return nil, bad(field, "software_ids of %.128q: at most %d texts, none empty", in.Issuer, maxSoftwareIDs)
		}
		row := &state.StatementIssuer{Issuer: in.Issuer, JwksUri: in.JWKSURI, Alg: in.Alg, SoftwareIds: in.SoftwareIDs}
		var err error
		if row.Jwks, err = r.statementKeys(&in); err != nil {
			return nil, bad(field, "%.128q: %v", in.Issuer, err)
		}
		out = append(out, row)
	}
	return out, nil
}

// statementKeys are the keys by value in our own form; none where they are fetched.
func (r *Registry) statementKeys(in *StatementIssuer) ([]byte, error) {
	byValue := len(in.JWKS) > 0 && string(in.JWKS) != "null"
	switch {
	case byValue == (in.JWKSURI != ""):
		return nil, errors.New("jwks or jwks_uri is needed, and not both")
	case len(in.JWKS) > maxJWKS:
		return nil, fmt.Errorf("jwks: at most %d bytes", maxJWKS)
	case byValue:
		keys, err := verify.ParseJWKS(in.JWKS)
		if err != nil {
			return nil, err
		}
		return verify.AppendJWKS(nil, keys), nil
	case r.cfg.OutboundURL == nil:
		return nil, errors.New("jwks_uri: nothing is fetched here")
	}
	return nil, r.cfg.OutboundURL(in.JWKSURI)
}

// stated puts what a software statement says into members, in place of what a request
// says (RFC 7591 §2.3), and gives the statement. A client that registered by one stays
// that software: without a new statement the one that is kept says what it did.
func (r *Registry) stated(ctx context.Context, v *state.View, t *state.Tenant, old *state.Client, members map[string]json.RawMessage) (string, map[string]json.RawMessage, error) {
	raw, given := members[statementMember]
	kept := old.GetSoftwareStatement()
	var claims map[string]json.RawMessage
	var err error
	text := kept
	switch {
	case given:
		text, claims, err = r.statement(ctx, v, t, raw)
	case kept != "":
		claims, err = keptStatement(kept)
	case t.GetSettings().GetRegistration().GetRequireStatement() && old == nil:
		err = bad(statementMember, "clients register here by a software statement of an issuer that the operator trusts (RFC 7591 §2.3); send one")
	default:
		return "", members, nil
	}
	if err == nil && given && kept != "" {
		err = sameSoftware(kept, claims)
	}
	if err != nil {
		return "", nil, err
	}
	all := maps.Clone(members)
	if claims["jwks"] != nil || claims["jwks_uri"] != nil { // one excludes the other
		delete(all, "jwks")
		delete(all, "jwks_uri")
	}
	for _, name := range selfMembers() {
		if value, ok := claims[name]; ok {
			all[name] = value
		}
	}
	return text, all, nil
}

// statement checks a statement that is sent, by the rules of RFC 8725: an issuer that is
// trusted for this, a key and an algorithm of its own, no type of another use, this server
// in aud if there is one, its times if it has any, and what software it is about.
func (r *Registry) statement(ctx context.Context, v *state.View, tenant *state.Tenant, raw json.RawMessage) (string, map[string]json.RawMessage, error) {
	invalid, unapproved := oauth.InvalidSoftwareStatement, oauth.UnapprovedSoftwareStatement
	s, ok := text(raw)
	if !ok || len(s) > maxStatement {
		return "", nil, invalid.Withf("software_statement must be a signed JWT of at most %d bytes", maxStatement)
	}
	t, err := verify.Parse(s)
	if err != nil {
		return "", nil, invalid.Withf("software_statement is no JWT that is read here: %v", err)
	}
	if !statementType(t.Header.Type) {
		return "", nil, invalid.With("typ of a software statement is JWT, or missing: this one was made for another use")
	}
	list := tenant.GetSettings().GetRegistration().GetStatementIssuers()
	at := slices.IndexFunc(list, func(i *state.StatementIssuer) bool { return i.GetIssuer() == t.Claims.Issuer })
	if at < 0 {
		return "", nil, unapproved.With("software statements of this issuer are not trusted here; ask the operator, or send the metadata as plain members")
	}
	signed, err := r.signedBy(ctx, list[at], t)
	if err != nil {
		return "", nil, err
	}
	if !signed {
		return "", nil, invalid.With("software_statement is not signed by a key of its issuer, or not with the algorithm of that key")
	}
	issuer, err := r.cfg.Issuer(v, tenant.GetId())
	if err != nil {
		return "", nil, err
	}
	now := max(r.cfg.Now().Unix(), v.Clock()/1000)
	t.Claims.Expires = cmp.Or(t.Claims.Expires, now+1) // one need not end
	expect := verify.Expect{Issuer: list[at].GetIssuer(), Now: now, Skew: assertionSkew}
	if t.Claims.Audience != nil {
		expect.Audience = []string{issuer}
	}
	if err := t.Check(expect); err != nil {
		return "", nil, invalid.Withf("software_statement is not good here and now: %v", err)
	}
	claims, err := statementClaims(t)
	if err != nil {
		return "", nil, err
	}
	id, ok := text(claims["software_id"])
	if !ok || id == "" {
		return "", nil, invalid.With("software_statement does not say which software it is about; its issuer must put software_id in it")
	}
	if ids := list[at].GetSoftwareIds(); len(ids) > 0 && !slices.Contains(ids, id) {
		return "", nil, unapproved.With("this software may not register here by a statement of this issuer; ask the operator")
	}
	return s, claims, nil
}

// statementType takes what says nothing, or the type itself. Tokens of other uses that an
// issuer signs say theirs (RFC 8725 §3.11).
func statementType(typ string) bool { return typeOf(typ, "software-statement+jwt") }

// signedBy tells whether a key of the issuer has signed the statement.
func (r *Registry) signedBy(ctx context.Context, i *state.StatementIssuer, t *verify.Token) (bool, error) {
	var set *verify.KeySet
	var err error
	switch {
	case len(i.GetJwks()) > 0:
		set, err = r.keys.Of(i.GetJwks())
	case r.cfg.Remote == nil:
		err = verify.ErrNoSet
	default:
		set, err = r.cfg.Remote.Of(ctx, i.GetJwksUri(), t.Header.KeyID)
	}
	if errors.Is(err, verify.ErrNoSet) {
		return false, oauth.TemporarilyUnavailable.With("the keys of the software statement's issuer can't be had now; try again in a minute").WithRetryAfter(30)
	}
	if err != nil {
		return false, err
	}
	key, ok := set.Lookup(t.Header.KeyID)
	return ok && (i.GetAlg() == "" || i.GetAlg() == t.Header.Alg) && t.Verify(key.For(i.GetAlg())) == nil, nil
}

// statementClaims are the claims as they stand in the statement.
func statementClaims(t *verify.Token) (map[string]json.RawMessage, error) {
	var claims map[string]json.RawMessage
	if err := json.Unmarshal([]byte(t.Claims.Raw), &claims); err != nil {
		return nil, oauth.InvalidSoftwareStatement.With("the claims of software_statement are no JSON object")
	}
	return claims, nil
}

// keptStatement reads one that was checked when its client registered.
func keptStatement(s string) (map[string]json.RawMessage, error) {
	t, err := verify.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("the software statement that is kept: %w", err)
	}
	return statementClaims(t)
}

// sameSoftware holds an update by another statement against the one before.
func sameSoftware(kept string, claims map[string]json.RawMessage) error {
	before, err := keptStatement(kept)
	if err != nil {
		return err
	}
	for _, name := range []string{"iss", "software_id"} {
		a, _ := text(before[name])
		if b, _ := text(claims[name]); a != b {
			return oauth.UnapprovedSoftwareStatement.Withf("%s is another than in the statement by which this client registered; register the other software as a new client", name)
		}
	}
	return nil
}
