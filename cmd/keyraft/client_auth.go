package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"
)

// assertionLife is how long an assertion may be used: one request, and clocks
// that differ a little.
const assertionLife = time.Minute

// clientAuth are the flags by which an OAuth client proves who it is.
type clientAuth struct {
	id, secret, secretFile, method, key, keyID string
}

func (a *clientAuth) add(cmd *cobra.Command) {
	a.addSecret(cmd)
	f := cmd.Flags()
	f.StringVar(&a.key, "private-key", "", "PEM file with its private key, for private_key_jwt")
	f.StringVar(&a.keyID, "key-id", "", "kid of that key in the client's JWKS")
}

// addSecret adds those of a client that has a secret.
func (a *clientAuth) addSecret(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.id, "client-id", "", "client that asks (KEYRAFT_CLIENT_ID)")
	f.StringVar(&a.secret, "client-secret", "", "its secret (KEYRAFT_CLIENT_SECRET is safer: flags show in the process list)")
	f.StringVar(&a.secretFile, "client-secret-file", "", "file with its secret on one line")
	f.StringVar(&a.method, "auth-method", "basic", "where the secret goes: basic (header) or post (form)")
}

// named reports whether a client was named at all.
func (a *clientAuth) named(cmd *cobra.Command, c console) bool {
	return fromFlag(cmd, c, "client-id", "KEYRAFT_CLIENT_ID", "") != ""
}

// apply puts the client's proof into the request.
func (a *clientAuth) apply(cmd *cobra.Command, c console, api *api, r *request) error {
	id := fromFlag(cmd, c, "client-id", "KEYRAFT_CLIENT_ID", "")
	if id == "" {
		return usagef("--client-id is missing; name the client that asks, or set KEYRAFT_CLIENT_ID")
	}
	r.basic = true
	if a.key != "" {
		assertion, err := a.assertion(cmd, api, id)
		if err != nil {
			return err
		}
		r.form.Set("client_id", id)
		r.form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		r.form.Set("client_assertion", assertion)
		return nil
	}
	secret, err := a.secretText(cmd, c)
	if err != nil {
		return err
	}
	switch {
	case a.method != "basic" && a.method != "post":
		return usagef("--auth-method %q is not known; use basic or post, or give --private-key", a.method)
	case secret == "": // a public client
		r.form.Set("client_id", id)
	case a.method == "post":
		r.form.Set("client_id", id)
		r.form.Set("client_secret", secret)
	default:
		// RFC 6749 §2.3.1: both parts are form-encoded first.
		r.authorize = func(req *http.Request) { req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
	}
	return nil
}

// secretText is the secret of the flags, the file or the variable.
func (a *clientAuth) secretText(cmd *cobra.Command, c console) (string, error) {
	if a.secretFile == "" {
		return fromFlag(cmd, c, "client-secret", "KEYRAFT_CLIENT_SECRET", ""), nil
	}
	if a.secret != "" {
		return "", usagef("--client-secret and --client-secret-file are both given; keep one")
	}
	return readSecretFile(a.secretFile)
}

// assertion makes a signed JWT of the client (RFC 7523 §2.2) for the issuer that
// the node names.
func (a *clientAuth) assertion(cmd *cobra.Command, api *api, id string) (string, error) {
	text, err := readLimited(a.key, 64<<10)
	if err != nil {
		return "", err
	}
	key, alg, err := parsePrivateKey(a.key, text)
	if err != nil {
		return "", err
	}
	answer, err := api.call(cmd.Context(), request{method: http.MethodGet, path: "/.well-known/oauth-authorization-server", basic: true})
	if err != nil {
		return "", err
	}
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(answer, &metadata); err != nil || metadata.Issuer == "" {
		return "", usagef("%s names no issuer; is it a Keyraft node? Set --addr or KEYRAFT_ADDR", api.node)
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if a.keyID != "" {
		options = options.WithHeader("kid", a.keyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		return "", usagef("%s can't sign: %v", a.key, err)
	}
	jti, err := api.idempotencyKey()
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": id, "sub": id, "aud": metadata.Issuer, "jti": jti,
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", usagef("%s can't sign: %v", a.key, err)
	}
	return signed.CompactSerialize()
}

// parsePrivateKey reads PKCS #8, PKCS #1 and SEC 1 keys, and chooses the
// algorithm that fits.
func parsePrivateKey(path string, text []byte) (crypto.PrivateKey, jose.SignatureAlgorithm, error) {
	const fix = "make one with 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256'"
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, "", usagef("%s holds no PEM key; %s", path, fix)
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, "", usagef("%s holds no private key that can be read (an encrypted one can't); %s", path, fix)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return k, jose.ES256, nil
		case elliptic.P384():
			return k, jose.ES384, nil
		}
	case ed25519.PrivateKey:
		return k, jose.EdDSA, nil
	case *rsa.PrivateKey:
		return k, jose.PS256, nil
	}
	return nil, "", usagef("%s holds a key of a kind that signs no assertion; %s", path, fix)
}
