package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/cluster"
	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi/gatewayapi"
	"github.com/keyraft/keyraft/internal/config"
	"github.com/keyraft/keyraft/internal/seal"
	"github.com/keyraft/keyraft/storage"
	"github.com/keyraft/keyraft/tokens"
)

// readyWithin bounds the wait for a node to be ready before its start is
// reported as slow; it goes on waiting.
const readyWithin = 15 * time.Second

// removedGrace is how long a removed node still answers /readyz with that word.
const removedGrace = 3 * time.Second

// server is one node while it runs.
type server struct {
	cfg    config.Config
	io     console
	log    *slog.Logger
	reg    *prometheus.Registry
	place  *place
	creds  credentials
	writes writes // of requests, by kind
	share  string // sealing keys that a joiner may be given
	keys   *seal.Keyring
	fatal  chan error
	gone   chan struct{} // closed when the node was removed

	api    net.Listener
	ops    net.Listener // nil: off
	tls    *tls.Config
	url    string // of the API, as others reach it
	node   *cluster.Node
	up     chan struct{} // closed when node is set
	unseen bool          // creds.AdminToken was made and kept, and no ready line has shown it yet

	pollers atomic.Pointer[gatewayapi.Pollers]
	proofs  atomic.Pointer[tokens.Proofs]
}

// runServer runs a node until ctx ends, then drains it.
func runServer(ctx context.Context, cfg config.Config, _ config.Settings, io console) error {
	s := &server{
		cfg: cfg, io: io, log: newLogger(cfg.LogFormat, cfg.LogLevel, io.Err), reg: prometheus.NewRegistry(),
		fatal: make(chan error, 1), gone: make(chan struct{}), up: make(chan struct{}),
	}
	if err := libraryMetrics(s.reg); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		s.closePorts()
		return err
	}
	for _, w := range append(cfg.Warnings(), config.UnknownEnv(io.Environ)...) {
		s.log.Warn(w)
	}
	defer s.closePorts()
	if err := s.startNode(ctx); err != nil {
		return err
	}
	rooms, err := s.rooms()
	if err != nil {
		return errors.Join(err, s.node.Close(ctx))
	}
	return s.serve(ctx, rooms)
}

// prepare opens what must be there before the node: folder, keys, API port.
func (s *server) prepare(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Data, 0o700); err != nil {
		return config.NewError("data_dir", "can't be made: "+err.Error(), "name a folder that this user may write")
	}
	if err := checkDisk(s.cfg.Data, s.cfg.Storage.AllowNetworkFS); err != nil {
		return err
	}
	var err error
	if s.place, err = loadPlace(&s.cfg); err != nil {
		return err
	}
	fresh := !hasState(s.cfg.Data)
	if fresh && s.cfg.Dev && s.cfg.Join == "" {
		s.cfg.Bootstrap = true
	}
	if fresh && !s.cfg.Bootstrap && s.cfg.Join == "" {
		return config.NewError("bootstrap", "is off, and the data folder "+s.cfg.Data+" is empty", "make a cluster with --bootstrap, enter one with --join ADDR --join-token TOKEN, or try things out with --dev")
	}
	if err := readJSON(filepath.Join(s.cfg.Data, devFile), &s.creds); err != nil {
		return err
	}
	if s.keys, s.share, err = sealingKeys(ctx, &s.cfg, s.log); err != nil {
		return err
	}
	if s.keys != nil && s.creds.AdminToken == "" {
		if s.creds.AdminToken, err = keptAdminToken(s.cfg.Data, s.keys); err != nil {
			return err
		}
		s.unseen = s.creds.AdminToken != ""
	}
	if s.tls, err = serverTLS(&s.cfg); err != nil {
		return err
	}
	if s.api, err = net.Listen("tcp", s.cfg.APIAddr); err != nil {
		return s.inUse(config.NewError("api_addr", err.Error(), "stop what listens there, or choose another address (port 0 picks a free one)"))
	}
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	s.url = scheme + advertised(s.cfg.APIAdvertise, s.api.Addr().String())
	if s.cfg.OpsAddr != "" {
		if s.ops, err = net.Listen("tcp", s.cfg.OpsAddr); err != nil {
			return s.inUse(config.NewError("ops_addr", err.Error(), "stop what listens there, or choose another address (port 0 picks a free one)"))
		}
	}
	if err := errors.Join(
		portFree("cluster_addr", s.cfg.ClusterAddr, false),
		portFree("gossip_addr", s.cfg.GossipAddr, true),
		portFree("gateway_gossip_addr", s.cfg.GatewayGossipAddr, true),
	); err != nil {
		return s.inUse(err)
	}
	return nil
}

func (s *server) closePorts() {
	for _, l := range []net.Listener{s.api, s.ops} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// advertised fills the port in that was bound.
func advertised(want, bound string) string {
	_, port, _ := net.SplitHostPort(bound)
	if want == "" {
		return bound
	}
	if host, p, err := net.SplitHostPort(want); err == nil && p == "0" {
		return net.JoinHostPort(host, port)
	}
	return want
}

func (s *server) apiAddr() string {
	_, addr, _ := strings.Cut(s.url, "://")
	return addr
}

// startNode makes or opens the node.
func (s *server) startNode(ctx context.Context) error {
	c := cluster.Config{
		DataDir: s.cfg.Data, NodeID: s.cfg.NodeID,
		BindAddr: samePort(s.cfg.ClusterAddr, s.place.ClusterAddr), AdvertiseAddr: s.cfg.ClusterAdvertise, APIAddr: s.apiAddr(),
		GossipAddr:        samePort(s.cfg.GossipAddr, s.place.GossipAddr),
		GatewayGossipAddr: samePort(s.cfg.GatewayGossipAddr, s.place.GatewayGossip),
		Keyring:           s.keys, ShareSealKeys: s.share, NonVoter: s.cfg.NonVoter,
		HeartbeatTimeout: s.cfg.Raft.HeartbeatTimeout, ElectionTimeout: s.cfg.Raft.ElectionTimeout,
		StalenessBound: s.cfg.StalenessBound, WriteTimeout: s.cfg.WriteTimeout,
		Storage:     storage.Options{CacheBytes: int64(s.cfg.Storage.Cache), Stall: s.cfg.Storage.StallLimit},
		SnapshotLog: int64(s.cfg.Raft.SnapshotLog), TrailingLogs: uint64(s.cfg.Raft.TrailingLogs),
		Jobs: s.jobs(), Topics: s.topics(), ReportedHead: s.reportedHead, Version: readVersion().Version, Logger: s.log, Registerer: s.reg,
		Fatal: func(err error) {
			select {
			case s.fatal <- err:
			default:
			}
			s.log.Error("this node must stop", "error", err)
			time.AfterFunc(5*time.Second, func() { os.Exit(1) }) // whatever hangs meanwhile
		},
		Removed: sync.OnceFunc(func() { close(s.gone) }),
	}
	if err := s.plan(ctx, &c); err != nil {
		return err
	}
	node, err := cluster.Start(ctx, c)
	if err != nil {
		return s.inUse(err)
	}
	s.node, s.keys = node, node.Keyring()
	close(s.up)
	s.reg.MustRegister(node.Collector())
	return nil
}

// inUse says so when the node could not start because another process has its
// folder (K26): that is for whoever started it to put right.
func (s *server) inUse(err error) error {
	pid := storage.LockHolder(filepath.Join(s.cfg.Data, "raft.db"))
	if pid == 0 || pid == os.Getpid() {
		return err
	}
	return config.NewError("data_dir", fmt.Sprintf("%s is in use by process %d", s.cfg.Data, pid), "stop that process, or name another folder")
}

// plan says how a node with an empty folder begins.
func (s *server) plan(ctx context.Context, c *cluster.Config) error {
	if hasState(s.cfg.Data) {
		return nil
	}
	if s.cfg.Join != "" {
		key, token, err := joinToken(&s.cfg)
		if err != nil {
			return err
		}
		if err := checkJoin(ctx, s.cfg.Join, key, token); err != nil {
			return err
		}
		c.Join = &cluster.JoinPlan{Token: token, Find: findMember(s.cfg.Join), SaveSealKeys: func(text string) error {
			return writePrivate(filepath.Join(s.cfg.Data, sealKeyFile), []byte(text))
		}}
		return nil
	}
	var err error
	if s.creds.AdminToken, err = firstAdminToken(&s.cfg, s.creds.AdminToken, s.log); err != nil {
		return err
	}
	switch { // before the cluster knows it, or a crash would lose it
	case s.cfg.Dev:
		err = s.saveDev()
	case s.cfg.AdminTokenFile == "":
		s.unseen = true
		err = keepAdminToken(s.cfg.Data, s.keys, s.creds.AdminToken)
	case s.unseen: // of a start that came to nothing: the operator's file counts
		s.unseen = false
		err = os.Remove(filepath.Join(s.cfg.Data, adminFile))
	}
	if err != nil {
		return err
	}
	c.Bootstrap, err = s.bootstrap()
	return err
}

// joinToken is the token, and the setting that gave it.
func joinToken(cfg *config.Config) (key, token string, err error) {
	key, token = "join_token", cfg.JoinToken.Reveal()
	if cfg.JoinTokenFile != "" {
		key = "join_token_file"
		raw, err := os.ReadFile(cfg.JoinTokenFile)
		if err != nil {
			return "", "", config.NewError(key, "can't be read: "+err.Error(), "name a file with the token on one line")
		}
		token = strings.TrimSpace(string(raw))
	}
	if token == "" {
		return "", "", config.NewError(key, "is missing or empty", "make one at a member with 'keyraft operator join-token' and pass it with --join-token or --join-token-file")
	}
	return key, token, nil
}

// bootstrap is the first command of a new cluster, but for what cluster adds.
func (s *server) bootstrap() (*command.Bootstrap, error) {
	issuer := s.cfg.Issuer
	if issuer == "" {
		issuer = s.url
	}
	b := &command.Bootstrap{
		Cluster: &state.Cluster{Issuer: issuer, IssuerFixed: s.cfg.Issuer != ""},
		Tenant: &state.Tenant{Id: tokens.DefaultTenant, DisplayName: "Default", CreatedAt: time.Now().UnixMilli(), Settings: &state.TenantSettings{
			SigningAlg: s.cfg.Tokens.SigningAlg, AccessTokenLifetime: int64(s.cfg.Tokens.AccessTokenLifetime / time.Second),
		}},
	}
	for _, name := range tokens.SharedKeys() {
		k, err := tokens.NewClusterKey(s.keys, name, 1, time.Now())
		if err != nil {
			return nil, err
		}
		b.Keys = append(b.Keys, k)
		if name != tokens.KeyHash {
			continue
		}
		plain, err := s.keys.Open(tokens.SealLabel(name, 1), k.GetSealed())
		if err != nil {
			return nil, err
		}
		hashKey := seal.Key(plain)
		hash := seal.Hash(&hashKey, []byte(s.creds.AdminToken))
		b.AdminToken = hash[:]
	}
	return b, nil
}

func (s *server) saveDev() error { return writeJSON(filepath.Join(s.cfg.Data, devFile), s.creds) }

// serve answers requests, says when the node is ready, and drains at the end.
func (s *server) serve(ctx context.Context, rooms *rooms) error {
	failed := make(chan error, 1)
	go func() { failed <- rooms.http.Serve(s.api) }()
	opsCtx, stopOps := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer background.Wait()
	defer stopOps()
	background.Go(func() { rooms.pollers.Run(opsCtx) })
	background.Go(func() { rooms.logouts.Run(opsCtx) })
	background.Go(func() { paceCollector(opsCtx) })
	background.Go(func() { rooms.rows.Run(opsCtx) })
	if s.ops != nil {
		background.Go(func() { serveOps(opsCtx, s.ops, rooms.ops, s.log) })
	}
	ready := make(chan error, 1)
	starting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	background.Go(func() { ready <- s.becomeReady(starting, rooms) })
	for {
		select {
		case err := <-ready:
			if err != nil && ctx.Err() == nil {
				return errors.Join(err, s.drain(rooms))
			}
			ready = nil
		case err := <-failed:
			return errors.Join(err, s.drain(rooms))
		case err := <-s.fatal:
			return err // no draining: this node must not go on
		case <-s.gone:
			s.log.Warn("this node was removed from the cluster and stops")
			time.Sleep(removedGrace)
			return errors.Join(cluster.ErrRemoved, s.drain(rooms))
		case <-ctx.Done():
			return s.drain(rooms)
		}
	}
}

func serveOps(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Error("the operators' listener ended", "error", err)
	}
}

// drain lets requests end, hands leadership over and closes the stores.
func (s *server) drain(rooms *rooms) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
	defer cancel()
	half, cancelHalf := context.WithTimeout(ctx, s.cfg.ShutdownTimeout/2)
	defer cancelHalf()
	if err := rooms.http.Shutdown(half); err != nil {
		s.log.Warn("requests were cut off at the stop", "error", err)
	}
	err := s.node.Close(ctx)
	s.log.Info("stopped", "after", time.Since(begun).Round(time.Millisecond).String())
	return err
}

// becomeReady waits until the node may serve and prints the ready line.
func (s *server) becomeReady(ctx context.Context, rooms *rooms) error {
	for waited := false; ; waited = true {
		wait, cancel := context.WithTimeout(ctx, readyWithin)
		err := s.awaitReady(wait, rooms)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if waited {
			s.log.Warn("still not ready", "reason", err)
		}
	}
	s.settle(ctx)
	s.place.ClusterAddr = s.node.ClusterAddr()
	s.place.GossipAddr, s.place.GatewayGossip = s.node.GossipAddrs()
	if err := writeJSON(filepath.Join(s.cfg.Data, placeFile), s.place); err != nil {
		return err
	}
	if err := s.settleIssuer(ctx); err != nil {
		return err
	}
	if s.cfg.Dev && s.creds.AdminToken != "" {
		if err := s.seedDev(ctx, rooms); err != nil {
			return err
		}
	}
	return s.printReady(rooms)
}

// settleTime bounds the wait for what is not needed to serve, but is meant by
// "ready": a voter votes, the gossip ports are known.
const settleTime = 10 * time.Second

// settle waits until a node that should vote does, so that three nodes that say
// ready survive the loss of one, and until the pools have their ports.
func (s *server) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		votes, should := s.node.Votes()
		nodes, gateways := s.node.GossipAddrs()
		if votes == should && (s.cfg.GossipAddr == "" || nodes != "") && (s.cfg.GatewayGossipAddr == "" || gateways != "") {
			return
		}
		select {
		case <-ctx.Done():
			s.log.Warn("this node serves, but does not vote yet; it will once it has caught up", "votes", votes, "should", should)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *server) awaitReady(ctx context.Context, rooms *rooms) error {
	if err := s.node.AwaitReady(ctx); err != nil {
		return err
	}
	for {
		err := rooms.signs()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// settleIssuer moves the issuer where it should be another: one that an operator
// named always, the one of --dev only at the node that made the cluster.
func (s *server) settleIssuer(ctx context.Context) error {
	want, fixed := s.cfg.Issuer, s.cfg.Issuer != ""
	if !fixed && s.cfg.Dev && s.creds.AdminToken != "" {
		want = s.url
	}
	v := s.node.FSM().View()
	c, _ := v.Cluster()
	if want == "" || c.GetIssuer() == want && c.GetIssuerFixed() == fixed {
		return nil
	}
	if c.GetIssuerFixed() && !fixed {
		return nil // an operator named it; an address doesn't change it
	}
	r, err := s.node.Propose(ctx, &command.SetIssuer{Issuer: want, Fixed: fixed})
	if err != nil {
		s.log.Warn("the issuer could not be changed now", "issuer", want, "error", err)
		return nil
	}
	return r.Err()
}

// seedDev makes the demo client and the gateway's credential, once.
func (s *server) seedDev(ctx context.Context, rooms *rooms) error {
	if s.creds.ClientID == "" || s.creds.ClientSecret == "" {
		id, secret, err := rooms.demoClient(ctx)
		if err != nil {
			return fmt.Errorf("make the demo client: %w", err)
		}
		s.creds.ClientID, s.creds.ClientSecret = id, secret
		if err := s.saveDev(); err != nil {
			return err
		}
	}
	if s.creds.GatewayCredential == "" {
		if err := rooms.demoGateway(ctx, &s.creds); err != nil {
			return fmt.Errorf("make the gateway's credential: %w", err)
		}
		return s.saveDev()
	}
	return nil
}

// printReady writes the one line for machines, and help for people.
func (s *server) printReady(rooms *rooms) error {
	issuer, err := rooms.issuer()
	if err != nil {
		return err
	}
	line := map[string]any{
		"msg": "ready", "issuer": issuer, "url": s.url, "api_addr": s.apiAddr(), "cluster_addr": s.node.ClusterAddr(),
		"gossip_addr": s.place.GossipAddr, "gateway_gossip_addr": s.place.GatewayGossip,
		"node_id": s.node.ID(), "cluster_id": s.node.ClusterID(), "data_dir": s.cfg.Data,
	}
	if s.cfg.DevTLS {
		line["cacert"] = filepath.Join(s.cfg.Data, devCertFile) // for KEYRAFT_CACERT
	}
	if s.ops != nil {
		line["ops_addr"] = s.ops.Addr().String()
	}
	if s.creds.AdminToken != "" && (s.cfg.Dev || s.cfg.AdminTokenFile == "" || s.unseen) {
		line["admin_token"] = s.creds.AdminToken
	}
	if s.cfg.Dev {
		for name, value := range map[string]string{
			"client_id": s.creds.ClientID, "client_secret": s.creds.ClientSecret,
			"gateway_credential": s.creds.GatewayCredential, "gossip_key": s.creds.GossipKey,
		} {
			if value != "" {
				line[name] = value
			}
		}
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := s.io.Out.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("print the ready line: %w", err)
	}
	if s.unseen {
		if err := os.Remove(filepath.Join(s.cfg.Data, adminFile)); err != nil {
			return fmt.Errorf("forget the admin token that was shown: %w", err)
		}
	}
	if s.cfg.Dev {
		s.printHelp()
	}
	return nil
}

func (s *server) printHelp() {
	if s.creds.AdminToken == "" {
		_, _ = fmt.Fprintf(s.io.Err, "\nKeyraft node %s serves at %s (joined; credentials are the first node's)\n\n", s.node.ID(), s.url)
		return
	}
	insecure := ""
	if s.tls != nil {
		insecure = " -k"
	}
	_, _ = fmt.Fprintf(s.io.Err, `
Keyraft is ready: %[1]s   (development mode; data in %[2]s)

  admin token    %[3]s
  demo client    %[4]s  %[5]s

Get a token, ask about it, take it back:

  TOKEN=$(curl%[6]s -s -u '%[4]s:%[5]s' -d grant_type=client_credentials %[1]s/oauth2/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl%[6]s -s -u '%[4]s:%[5]s' -d "token=$TOKEN" %[1]s/oauth2/introspect -w '\n'
  curl%[6]s -s -u '%[4]s:%[5]s' -d "token=$TOKEN" %[1]s/oauth2/revoke -w '%%{http_code}\n'

Ctrl-C stops it; the data stays.

`, s.url, s.cfg.Data, s.creds.AdminToken, s.creds.ClientID, s.creds.ClientSecret, insecure)
}

// newLogger writes to standard error. Values of known secret names are hidden,
// whoever logs them.
func newLogger(format, level string, to io.Writer) *slog.Logger {
	var at slog.Level
	_ = at.UnmarshalText([]byte(level)) // checked by the configuration
	o := &slog.HandlerOptions{Level: at, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch strings.ToLower(a.Key) {
		case "authorization", "client_secret", "password", "code", "assertion", "client_assertion", "token", "access_token",
			"refresh_token", "admin_token", "join_token", "credential", "cookie", "secret", "seal_key", "gossip_key":
			return slog.String(a.Key, "[hidden]")
		}
		return a
	}}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(to, o))
	}
	return slog.New(slog.NewTextHandler(to, o))
}
