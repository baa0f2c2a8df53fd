package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/grants/logout"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/httpapi/adminapi"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/httpapi/opsapi"
	"github.com/keyraft/keyraft/httpapi/pages"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/internal/outbound"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
	"github.com/keyraft/keyraft/tokens/verify"
)

// wire puts the rooms of the program together. Literal lists only; no rules.
func wire() deps {
	return deps{RunServer: runServer, RunGateway: runGateway, InspectSnapshot: inspectSnapshot, RescueSnapshot: rescueSnapshot}
}

// inspectSnapshot reads and checks a whole stream.
func inspectSnapshot(r io.Reader) (any, error) {
	h, rows, err := fsm.Inspect(r)
	if err != nil {
		return nil, err
	}
	return struct {
		fsm.Header
		Rows int64 `json:"rows"`
	}{h, rows}, nil
}

// rescueSnapshot makes a snapshot of a stopped node's folder.
func rescueSnapshot(dir, scratch string, to io.Writer) (any, error) {
	if pid := storage.LockHolder(filepath.Join(dir, "raft.db")); pid != 0 {
		return nil, usagef("%s is in use by process %d; stop that node first, and don't start it again", dir, pid)
	}
	return cluster.Rescue(dir, scratch, to, slog.New(slog.DiscardHandler))
}

// rooms are what stands on the node.
type rooms struct {
	server   *server
	http     *httpapi.Server
	ops      http.Handler
	registry *clients.Registry
	shared   *tokens.ClusterKeys
	signing  *tokens.SigningKeys
	pollers  *gatewayapi.Pollers
	outbound *outbound.Client
	logouts  *logout.Notifier
	rows     *tableRows
	people   *people
	routes   []httpapi.Route
}

// propose and view wait for the node where a leader's job is quicker than Start.
func (s *server) propose(ctx context.Context, c command.Command) (command.Result, error) {
	<-s.up
	s.writes.count(c)
	return s.node.Propose(ctx, c)
}

func (s *server) view(ctx context.Context, f state.Freshness) (*state.View, error) {
	<-s.up
	return s.node.View(ctx, f)
}

// jobs are the leader's, besides the cluster's own.
func (s *server) jobs() []cluster.Job {
	return []cluster.Job{
		{Name: "signing-keys", Every: time.Second, Run: s.keyJob()},
	}
}

// keyJob makes the job when it first runs: the sealing keys of a joining node
// arrive with the join.
func (s *server) keyJob() func(context.Context) error {
	var job *tokens.KeyJob
	return func(ctx context.Context) error {
		<-s.up
		if job == nil {
			var err error
			if job, err = s.newKeyJob(); err != nil {
				return err
			}
		}
		return job.Run(ctx)
	}
}

func (s *server) newKeyJob() (*tokens.KeyJob, error) { return tokens.NewKeyJob(s.rotation()) }

// rotation says when signing keys change.
func (s *server) rotation() tokens.KeyJobConfig {
	return tokens.KeyJobConfig{
		View: s.view, Propose: s.propose, Ring: s.keys, Now: time.Now,
		Rotation: s.cfg.Keys.RotationPeriod, Lead: s.cfg.Keys.PublicationLead, CacheFor: s.cfg.Keys.JWKSMaxAge,
	}
}

// rooms builds what answers requests.
func (s *server) rooms() (*rooms, error) {
	r := &rooms{server: s, shared: tokens.NewClusterKeys(s.keys), signing: tokens.NewSigningKeys(s.keys)}
	hashes := clients.Keys{
		Newest: func(v *state.View) (*seal.Key, uint32, error) { return r.shared.Newest(v, tokens.KeyHash) },
		Version: func(v *state.View, version uint32) (*seal.Key, error) {
			return r.shared.Version(v, tokens.KeyHash, version)
		},
	}
	boxes := tokens.NewBoxes(r.shared, tokens.KeyCode)
	hashes.Seal, hashes.Open = boxes.Seal, boxes.Open
	authorities, err1 := newClientCAs(s.cfg.TLS.ClientCAFile, s.log)
	trusted, err2 := proxies(&s.cfg)
	certs := clientCerts(&s.cfg)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	figures := newFigures(grants.Types())
	networks, err := outbound.ParseNetworks(s.cfg.OutboundAllow)
	if err != nil {
		return nil, err
	}
	r.outbound = outbound.New(outbound.Config{Allow: networks, Loopback: s.cfg.Dev})
	clientKeys := &verify.RemoteSets{Fetch: r.outbound.Get, Now: time.Now, Failed: func(url string, err error) {
		s.log.Warn("the keys of a client, or of an issuer of software statements, can't be had; nothing that they sign is believed when the present ones are an hour old", "url", url, "err", err)
	}}
	authenticator, err1 := clients.NewAuthenticator(clients.AuthenticatorConfig{
		Propose: s.propose, View: s.view, Keys: hashes, Now: time.Now, Issuer: r.signing.Issuer, TokenPath: oauthapi.TokenPath,
		ClientCAs: authorities.get,
		Remote:    clientKeys,
	})
	registry, err2 := clients.NewRegistry(clients.RegistryConfig{
		Propose: s.propose, View: s.view, Keys: hashes, Now: time.Now, Grants: grants.Types(),
		OutboundURL: r.outbound.Check, Fetch: r.outbound.Get, Remote: clientKeys, Issuer: r.signing.Issuer,
	})
	introspector, err3 := tokens.NewIntrospector(tokens.IntrospectorConfig{
		Signing: r.signing, Shared: r.shared, Now: time.Now,
		Absent: absent,
	})
	minter, err4 := tokens.NewMinter(r.signing, s.node.ID())
	proofs, err5 := tokens.NewProofs(tokens.ProofsConfig{Node: s.node.ID(), Shared: r.shared, Now: time.Now, Ask: s.node.Ask})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	r.registry = registry
	s.proofs.Store(proofs)
	opaque, err1 := tokens.NewOpaque(minter, r.shared, s.propose)
	revoker, err2 := tokens.NewRevoker(introspector, s.view, s.propose)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	passwords, err := seal.NewPasswords(max(1, runtime.GOMAXPROCS(0)/2), 256)
	if err != nil {
		return nil, err
	}
	users, err := identity.NewUsers(identity.UsersConfig{
		Propose: s.propose, View: s.view, Passwords: passwords, Now: time.Now, Absent: absent, TokensEnd: revoker.TokensEnd,
	})
	if err != nil {
		return nil, err
	}
	subjects, err := tokens.NewSubjects(r.shared)
	if err != nil {
		return nil, err
	}
	refresh, codes := tokens.NewRefreshTokens(r.shared), tokens.NewBoxes(r.shared, tokens.KeyCode)
	requests, err := pending.New(pending.Config{Node: s.node.ID(), Propose: s.propose, View: s.view, Shared: r.shared, Now: time.Now, Absent: absent})
	if err != nil {
		return nil, err
	}
	pipeline, err := grants.New(grants.Config{
		Clients: authenticator, Keys: r.signing, Minter: minter, Opaque: opaque, View: s.view, Now: time.Now, Observe: figures.token,
		Propose: s.propose, Refresh: refresh, Boxes: codes, Absent: absent, Locked: users.Locked, Proofs: proofs, Pending: requests, TokenPath: oauthapi.TokenPath,
		Check: users.Check, Subject: subjects.Subject, Introspector: introspector, Fetch: r.outbound.Get,
		KeysFailed: func(url string, err error) {
			s.log.Warn("the keys of a trusted issuer can't be had; its tokens are refused when the present ones are an hour old", "url", url, "err", err)
		},
	})
	if err != nil {
		return nil, err
	}
	engine, err := authorize.New(authorize.Config{
		Propose: s.propose, View: s.view, Keys: r.signing, Boxes: codes, Now: time.Now, Absent: absent, Subjects: subjects,
		Minter: minter, Pipeline: pipeline, ClientKeys: authenticator.KeySet, FetchObject: r.outbound.GetJWT,
	})
	if err != nil {
		return nil, err
	}
	r.logouts, err = logout.New(logout.Config{
		View: s.view, Minter: minter, Keys: r.signing, Subjects: subjects, ClientKeys: authenticator.EncryptionKeys, Post: r.outbound.Post, Now: time.Now, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	r.people, err = r.newPeople(users, codes, r.logouts)
	if err != nil {
		return nil, err
	}
	pageRoutes, err := r.pages(engine, codes, requests)
	if err != nil {
		return nil, err
	}
	oauthRoutes, err := oauthapi.Routes(oauthapi.Deps{
		Pipeline: pipeline, Engine: engine, Clients: authenticator, Keys: r.signing, Introspector: introspector, Revoker: revoker, Proofs: proofs,
		Minter: minter, Subjects: subjects, Now: time.Now, Absent: absent,
		View: s.view, Grants: grants.Types(), Bearer: r.bearer, JWKSCache: s.cfg.Keys.JWKSMaxAge, ClientCerts: certs != nil, Registry: registry,
		Pages: oauthapi.PagesMetadata{AuthorizePath: pages.AuthorizePath, LogoutPath: pages.LogoutPath, Locales: pages.Languages()},
	})
	if err != nil {
		return nil, err
	}
	ops := opsapi.Deps{
		Checks: []opsapi.Check{
			{Name: "state", Err: s.node.Ready, Needed: true},
			{Name: "signing_key", Err: r.signs, Needed: true},
		},
		Leader: func() error {
			if s.node.HasLeader() {
				return nil
			}
			return errors.New("no leader is in reach: writes would be refused")
		},
		Removed: cluster.ErrRemoved, Metrics: s.reg, Knows: s.node.Knows, ClusterID: s.node.ClusterID(), ClusterAddr: s.node.ClusterAddr,
	}
	r.ops = opsapi.Handler(ops)
	gatewayRoutes, err := r.gateways()
	if err != nil {
		return nil, err
	}
	adminRoutes, err := r.admin(revoker, introspector)
	if err != nil {
		return nil, err
	}
	r.routes = slices.Concat(oauthRoutes, pageRoutes, adminRoutes, gatewayRoutes, opsapi.Routes(ops, s.cfg.Dev))
	r.http, err = httpapi.New(httpapi.Config{
		Routes: r.routes, View: s.view, Fresh: s.node.Fresh, Translate: translate, TLS: s.tls, Proxies: trusted, ClientCerts: certs, Logger: s.log, Observe: figures.request, Access: s.access, Logs: s.logs,
		Limits: httpapi.Limits{
			Body: int(s.cfg.Limits.Body), Headers: int(s.cfg.Limits.Header), ReadTimeout: s.cfg.Limits.ReadTimeout,
			IdleTimeout: s.cfg.Limits.IdleTimeout, Connections: s.cfg.Limits.Concurrency, PerIP: s.cfg.Limits.ConnsPerIP,
		},
	})
	if err != nil {
		return nil, err
	}
	return r, r.show(figures)
}

// pages builds what people see.
func (r *rooms) pages(engine *authorize.Engine, boxes *tokens.Boxes, requests *pending.Requests) ([]httpapi.Route, error) {
	s := r.server
	return pages.Routes(pages.Deps{
		Engine: engine, View: s.view, Keys: r.signing, Users: r.people.users, Sessions: r.people.sessions, Consents: r.people.consents,
		Browsers: &identity.Browsers{Seal: boxes.Seal, Open: boxes.Open}, Factors: r.people.factors, Resets: r.people.resets, Pending: requests,
	})
}

// absent tells the error of a row that is not there from that of a store that is
// damaged or closed.
func absent(err error) bool { return errors.Is(err, storage.ErrNotFound) }

// show makes the series of the rooms part of /metrics.
func (r *rooms) show(figures *figures) error {
	s := r.server
	keys, err := s.newKeyJob()
	if err != nil {
		return err
	}
	r.rows = newTableRows(s.node.FSM().View)
	s.reg.MustRegister(
		r.rows, figures, &s.writes, logouts{r.logouts.Counts}, newBuildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		certificates{"node": s.node.CertificateExpires, "api": listenerExpires(s.tls)},
		&nodeFigures{dir: s.cfg.Data, connections: r.http.Connections, lane: r.signing.Lane, view: s.node.FSM().View, keys: keys, proofs: s.proofs.Load()},
		&gatewayFigures{pollers: r.pollers, head: func() uint64 { return s.node.FSM().View().Head() }},
	)
	return nil
}

// translate turns what the cluster says into answers.
func translate(err error) error {
	if errors.Is(err, cluster.ErrStale) || errors.Is(err, cluster.ErrBehind) {
		return oauth.TemporarilyUnavailable.With(err.Error() + "; try again shortly, or ask another node").WithRetryAfter(1)
	}
	return oauthapi.Translate(err)
}

// signs tells whether this node can sign the default tenant's tokens now.
func (r *rooms) signs() error {
	return r.signing.Ready(r.server.node.FSM().View(), tokens.DefaultTenant)
}

func (r *rooms) issuer() (string, error) {
	return r.signing.Issuer(r.server.node.FSM().View(), tokens.DefaultTenant)
}

// bearer tells who shows a gateway's credential or an operator's token.
func (r *rooms) bearer(v *state.View, token string) (tokens.Caller, error) {
	var caller tokens.Caller
	found := false
	err := r.shared.Each(v, tokens.KeyHash, func(_ uint32, key *seal.Key) bool {
		hash := seal.Hash(key, []byte(token))
		if g, ok := v.GatewayByCredential(hash); ok {
			caller.Tenants, found = g.GetTenants(), true
		} else if a, ok := v.AdminToken(hash); ok {
			found = a.GetExpiresAt() == 0 || a.GetExpiresAt() > max(v.Clock(), time.Now().UnixMilli())
			if a.GetTenant() != "" {
				caller.Tenants = []string{a.GetTenant()}
			}
		}
		return !found
	})
	if err != nil {
		return tokens.Caller{}, err
	}
	if !found {
		return tokens.Caller{}, oauth.InvalidToken.With("the bearer token is neither a gateway's credential nor an admin token of this cluster")
	}
	return caller, nil
}

// demoClient makes the client of --dev, or gives it a new secret when it is
// there and its secret was lost.
func (r *rooms) demoClient(ctx context.Context) (id, secret string, err error) {
	v, err := r.server.view(ctx, state.Linearizable)
	if err != nil {
		return "", "", err
	}
	made, err := r.registry.Create(ctx, v, tokens.DefaultTenant, &clients.Registration{
		ClientID: "demo", ClientName: "Demo client of --dev", Scope: "read write",
	})
	if errors.Is(err, command.Exists) {
		made, err = r.registry.RotateSecret(ctx, v, tokens.DefaultTenant, "demo", clients.UntilNext, 0)
	}
	if err != nil {
		return "", "", err
	}
	return "demo", made.Secret(), nil
}

// demoGateway makes the gateway credential of --dev.
func (r *rooms) demoGateway(ctx context.Context, creds *credentials) error {
	v, err := r.server.view(ctx, state.Linearizable)
	if err != nil {
		return err
	}
	key, _, err := r.shared.Newest(v, tokens.KeyHash)
	if err != nil {
		return err
	}
	secret := seal.NewSecret().Reveal()
	hash := seal.Hash(key, []byte(secret))
	result, err := r.server.propose(ctx, &command.PutGateway{Gateway: &state.Gateway{
		Id: "dev-gateway", Name: "gateway of --dev", Credential: hash[:], CreatedAt: time.Now().UnixMilli(),
	}})
	if err := errors.Join(err, result.Err()); err != nil {
		return err
	}
	gossip, err := r.server.node.GatewayGossipKey()
	if err != nil {
		return err
	}
	creds.GatewayID, creds.GatewayCredential = "dev-gateway", secret
	creds.GossipKey = encodeKey(gossip)
	return nil
}

// topics are the questions that nodes put to each other. The node that answers
// may be quicker up than its rooms.
func (s *server) topics() map[string]cluster.Topic {
	starting := errors.New("this node is starting")
	return map[string]cluster.Topic{
		gatewayapi.TopicPollers: func(ctx context.Context, from string, body []byte) ([]byte, error) {
			if p := s.pollers.Load(); p != nil {
				return p.Answer(ctx, from, body)
			}
			return nil, starting
		},
		tokens.TopicProofs: func(ctx context.Context, from string, body []byte) ([]byte, error) {
			if p := s.proofs.Load(); p != nil {
				return p.Answer(ctx, from, body)
			}
			return nil, starting
		},
	}
}

// reportedHead is the highest head that a gateway has reported to any node.
func (s *server) reportedHead(ctx context.Context) uint64 {
	if p := s.pollers.Load(); p != nil {
		return p.ReportedHead(ctx)
	}
	return 0
}

// gateways builds what gateways ask.
func (r *rooms) gateways() ([]httpapi.Route, error) {
	s := r.server
	pollers, err := gatewayapi.NewPollers(gatewayapi.PollersConfig{
		View: s.view, Nodes: s.node.NodeIDs, Ask: s.node.Ask, Staleness: s.cfg.StalenessBound,
	})
	if err != nil {
		return nil, err
	}
	s.pollers.Store(pollers)
	r.pollers = pollers
	return gatewayapi.Routes(gatewayapi.Deps{
		View: s.view, HeadMoved: s.node.HeadMoved, Shared: r.shared, Signing: r.signing, Pollers: pollers, Now: time.Now, Operators: s.cfg.Dev,
	})
}

// admin builds what operators ask.
func (r *rooms) admin(revoker *tokens.Revoker, introspector *tokens.Introspector) ([]httpapi.Route, error) {
	s, n := r.server, r.server.node
	return adminapi.Routes(adminapi.Deps{
		View: s.view, Propose: s.propose, Clients: r.registry, Users: r.people.users, Absent: absent, Revoker: revoker, Introspector: introspector,
		Sessions: r.people.sessions, Consents: r.people.consents, Factors: r.people.factors, Resets: r.people.resets, ResetPath: pages.ResetPath,
		Signing: r.signing, Shared: r.shared, Proofs: s.proofs.Load(), Rotation: s.rotation(), Now: time.Now, WriteTimeout: s.cfg.WriteTimeout,
		Cluster: adminapi.Cluster{
			Status: n.Status, Members: n.Members, Remove: n.Remove, Promote: n.Promote, Transfer: n.TransferLeader,
			JoinToken: n.JoinToken, Checksum: n.FSM().Checksum, Restore: n.Restore, GatewayGossipKey: n.GatewayGossipKey,
			Backup: func(ctx context.Context, w io.Writer) error {
				_, err := n.Backup(ctx, w)
				return err
			},
			RotateGossipKey: func(ctx context.Context, pool string) error {
				_, err := n.RotateGossipKey(ctx, pool)
				return err
			},
		},
		OutboundURL: r.outbound.Check,
		Gateways:    adminapi.Gateways{Instances: r.pollers.Instances, Receipt: r.pollers.Receipt},
	})
}
