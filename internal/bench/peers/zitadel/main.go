// Command zitadel is the example server of zitadel/oidc as make bench measures
// it: its own router, provider and in-memory store, with an ES256 signing key in
// place of the RS256 one, two clients of the client credentials grant (one gets
// JWTs, one opaque tokens), and its log thrown away. docs/peers.md says why.
//
// It is a module of its own, so that Keyraft's go.mod knows nothing of it.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The two clients; both have the secret that the environment gives.
const (
	clientJWT    = "bench-jwt"
	clientOpaque = "bench-opaque"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	secret := os.Getenv("PEER_CLIENT_SECRET")
	if secret == "" {
		return errors.New("PEER_CLIENT_SECRET is empty: set it to the secret of the two clients")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	issuer := "http://" + listener.Addr().String()
	store, err := newStore(issuer, secret)
	if err != nil {
		return err
	}
	router := exampleop.SetupServer(issuer, store, slog.New(slog.DiscardHandler), false)
	server := &http.Server{Handler: router, ReadHeaderTimeout: 10 * time.Second}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"msg": "ready", "url": issuer}); err != nil {
		return fmt.Errorf("print the ready line: %w", err)
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return server.Close()
	}
}

// store is the example's store, but for its signing key and its service clients.
type store struct {
	*storage.Storage
	secret  string
	clients map[string]serviceClient
	key     *signingKey
}

func newStore(issuer, secret string) (*store, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the signing key: %w", err)
	}
	jwt, opaque := storage.WebClient(clientJWT, secret), storage.WebClient(clientOpaque, secret)
	storage.RegisterClients(jwt, opaque) // who may introspect is looked up there
	return &store{
		Storage: storage.NewStorage(subjects{storage.NewUserStore(issuer)}),
		secret:  secret,
		clients: map[string]serviceClient{
			clientJWT:    {jwt, op.AccessTokenTypeJWT},
			clientOpaque: {opaque, op.AccessTokenTypeBearer},
		},
		key: &signingKey{id: "ES256", private: key},
	}, nil
}

// ClientCredentials checks the client of a client credentials request.
func (s *store) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	client, ok := s.clients[id]
	if !ok || subtle.ConstantTimeCompare([]byte(secret), []byte(s.secret)) != 1 {
		return nil, errors.New("wrong service client or secret")
	}
	return client, nil
}

// ClientCredentialsTokenRequest says what goes into the token, as the example does.
func (s *store) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &oidc.JWTTokenRequest{Subject: id, Audience: []string{id}, Scopes: scopes}, nil
}

// SigningKey is the ES256 key in place of the example's RS256 key.
func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

// SignatureAlgorithms is what discovery shows.
func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet is the public key.
func (s *store) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{&publicKey{s.key}}, nil
}

// serviceClient is an example client that may use the client credentials grant.
type serviceClient struct {
	*storage.Client
	tokens op.AccessTokenType
}

// GrantTypes is the one grant that is measured.
func (c serviceClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

// AccessTokenType chooses between a JWT and an opaque token.
func (c serviceClient) AccessTokenType() op.AccessTokenType { return c.tokens }

// subjects adds the two clients to the example's users: its introspection looks
// the token's subject up there and calls the token inactive when it finds none.
type subjects struct{ storage.UserStore }

// GetUserByID finds a user or one of the two clients.
func (s subjects) GetUserByID(id string) *storage.User {
	if id == clientJWT || id == clientOpaque {
		return &storage.User{ID: id, Username: id}
	}
	return s.UserStore.GetUserByID(id)
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k *signingKey) Key() any                                    { return k.private }
func (k *signingKey) ID() string                                  { return k.id }

type publicKey struct{ signing *signingKey }

func (k *publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k *publicKey) Use() string                        { return "sig" }
func (k *publicKey) Key() any                           { return &k.signing.private.PublicKey }
func (k *publicKey) ID() string                         { return k.signing.id }
