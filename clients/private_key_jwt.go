package clients

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens/verify"
)

const (
	// maxAssertionLife bounds an assertion's life, in seconds, and so how long its
	// jti is kept (JWT-21).
	maxAssertionLife = 3600
	// assertionSkew is what exp may be passed by, in seconds: the clocks of clients.
	assertionSkew = 60
	// maxJTI bounds what is stored of a stranger's words, in bytes.
	maxJTI = 256

	// consumedAssertion is the kind of one-time value that an assertion's jti is.
	consumedAssertion = "assertion"
)

// claimAssertion reads private_key_jwt and client_secret_jwt (RFC 7523 §2.2, OpenID
// Connect Core §9); the algorithm tells them apart. The
// id is the assertion's sub, hearsay until its signature is checked with the keys of
// the client that it names.
func (r *Request) claimAssertion() (claim, error) {
	if r.AssertionType != oauth.ClientAssertionJWT {
		return claim{}, oauth.InvalidRequest.With("client_assertion_type must be " + oauth.ClientAssertionJWT)
	}
	if r.Assertion == "" {
		return claim{}, oauth.InvalidRequest.With("client_assertion is missing")
	}
	c := claim{method: oauth.AuthPrivateKeyJWT}
	t, err := verify.Parse(r.Assertion)
	if err != nil {
		c.method = oauth.AuthSecretJWT
		t, err = verify.ParseMAC(r.Assertion)
	}
	if err != nil {
		c.broken = true
		return c, nil
	}
	c.id, c.assertion = t.Claims.Subject, t
	c.broken = c.id == "" || t.Claims.Issuer != c.id || r.ID != "" && r.ID != c.id ||
		t.Claims.JTI == "" || len(t.Claims.JTI) > maxJTI || !assertionType(t.Header.Type)
	return c, nil
}

// assertionType takes what is sent for this use: nothing, JWT, or the explicit type.
// Any other says that the token was made for something else (RFC 8725 §3.11).
func assertionType(typ string) bool { return typeOf(typ, "client-authentication+jwt") }

func typeOf(typ, explicit string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "" || typ == "jwt" || typ == explicit
}

// provesAssertion checks signature, algorithm, audience and times. The audience is
// the issuer identifier and nothing else (rfc7523bis; JWT-19), or the token endpoint
// where the client is registered for that.
func (a *Authenticator) provesAssertion(ctx context.Context, v *state.View, tenant string, client *state.Client, t *verify.Token) (bool, error) {
	verifies := a.verifiesSignature
	if t.Header.Alg == verify.HS256 {
		verifies = a.verifiesMAC
	}
	if ok, err := verifies(ctx, v, client, t); err != nil || !ok {
		return false, err
	}
	issuer, err := a.cfg.Issuer(v, tenant)
	if err != nil {
		return false, err
	}
	aud := t.Claims.Audience
	if len(aud) != 1 || aud[0] != issuer && !(client.GetAssertionAudienceTokenEndpoint() && aud[0] == issuer+a.cfg.TokenPath) {
		return false, nil
	}
	if Forgotten(v, t.Claims.IssuedAt, maxAssertionLife) {
		return false, nil
	}
	now := max(a.cfg.Now().Unix(), v.Clock()/1000)
	return t.Check(verify.Expect{Issuer: client.GetId(), Now: now, Skew: assertionSkew, MaxLife: maxAssertionLife}) == nil, nil
}

// Forgotten tells whether the use of a one-time JWT of this iat may be unknown here: a
// restore forgets which ones were used since its backup, so none from before it counts
// until the last of them, which lives so many seconds at most, has expired (R15).
func Forgotten(v *state.View, issuedAt, life int64) bool {
	cluster, _ := v.Cluster()
	restored := cluster.GetRestoredAt()
	return restored != 0 && issuedAt <= restored/1000 && v.Clock() < restored+(life+2*assertionSkew)*1000
}

// verifiesSignature checks an assertion of private_key_jwt with the client's keys.
func (a *Authenticator) verifiesSignature(ctx context.Context, _ *state.View, client *state.Client, t *verify.Token) (bool, error) {
	set, err := a.KeySet(ctx, client, t.Header.KeyID)
	if errors.Is(err, verify.ErrNoSet) {
		return false, nil // the operator's log says why
	}
	if err != nil {
		return false, err
	}
	key, ok := set.Lookup(t.Header.KeyID)
	alg := client.GetAssertionAlg()
	return ok && (alg == "" || alg == t.Header.Alg) && t.Verify(key.For(alg)) == nil, nil
}

// consume uses the assertion's jti up, by a write that all nodes share, so that no
// node and no restart takes it twice (I3). Its record is kept as long as the
// assertion could be taken.
func (a *Authenticator) consume(ctx context.Context, tenant string, t *verify.Token) error {
	c := &command.Consume{
		Tenant: tenant, ValueKind: consumedAssertion,
		Id:        t.Claims.Issuer + "\x00" + t.Claims.JTI,
		ExpiresAt: t.Claims.Expires + assertionSkew,
	}
	result, err := a.cfg.Propose(ctx, c)
	if err == nil && result.Reject == command.EpochChanged {
		result, err = a.cfg.Propose(ctx, c) // it rests on no row of the old history
	}
	if err != nil {
		return fmt.Errorf("use a client assertion: %w", err)
	}
	switch result.Reject {
	case command.Accepted:
		return nil
	case command.AlreadyUsed, command.AlreadyExpired:
		return errRefused
	}
	return fmt.Errorf("use a client assertion: %w", result.Reject)
}

// KeySet are the keys that a client signs with: its jwks, or what is found at its
// jwks_uri, looked up again for a kid that is not among them. The error is
// verify.ErrNoSet for a client without keys or whose keys can't be had now.
func (a *Authenticator) KeySet(ctx context.Context, client *state.Client, kid string) (*verify.KeySet, error) {
	switch {
	case client.GetJwksUri() != "" && a.cfg.Remote != nil:
		return a.cfg.Remote.Of(ctx, client.GetJwksUri(), kid)
	case len(client.GetJwks()) == 0:
		return nil, verify.ErrNoSet
	}
	set, err := a.keys.Of(client.GetJwks())
	if err != nil {
		return nil, fmt.Errorf("stored keys of client %q: %w", client.GetId(), err)
	}
	return set, nil
}

// EncryptionKeys is the key set of a client with a key that one may encrypt to with alg:
// its jwks, or what is found at its jwks_uri. The error is temporarily_unavailable where
// there is none now.
func (a *Authenticator) EncryptionKeys(ctx context.Context, client *state.Client, alg string) ([]byte, error) {
	if client.GetJwksUri() == "" {
		return client.GetJwks(), nil
	}
	holds := func(document []byte) bool {
		_, err := verify.FindEncryptionKey(document, alg)
		return err == nil
	}
	document, err := a.document(ctx, client, holds)
	if err != nil && !errors.Is(err, verify.ErrNoSet) {
		return nil, err
	}
	if err != nil || !holds(document) {
		return nil, oauth.TemporarilyUnavailable.With("no key to encrypt to with " + alg + " can be had from the client's jwks_uri now; publish one there with use enc, or try again in a minute").WithRetryAfter(30)
	}
	return document, nil
}

// document is the key set at a client's jwks_uri, as it is there.
func (a *Authenticator) document(ctx context.Context, client *state.Client, holds func(document []byte) bool) ([]byte, error) {
	if a.cfg.Remote == nil {
		return nil, verify.ErrNoSet
	}
	return a.cfg.Remote.Document(ctx, client.GetJwksUri(), holds)
}
