package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyraft/keyraft/gateway"
	"github.com/keyraft/keyraft/gateway/forwardauth"
	"github.com/keyraft/keyraft/internal/config"
)

// encodeKey writes a gossip key as POST /admin/v1/gateways hands it out.
func encodeKey(key []byte) string { return base64.StdEncoding.EncodeToString(key) }

// runGateway runs the reference gateway until ctx ends.
func runGateway(ctx context.Context, cfg config.Gateway, _ config.Settings, io console) error {
	log := newLogger(cfg.LogFormat, cfg.LogLevel, io.Err)
	g, err := newGatewayOf(cfg, func(c *gateway.Config) { c.Logger = log })
	if err != nil {
		return err
	}
	serverConfig, err := serverTLS(&config.Config{TLS: config.ServerTLS{CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile}})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return config.NewError("listen", err.Error(), "stop what listens there, or choose another address (port 0 picks a free one)")
	}
	if serverConfig != nil {
		l = tls.NewListener(l, serverConfig)
	}
	srv, err := forwardauth.New(forwardauth.Config{Validate: g.Validate, Status: g.Status, Logger: log, ClientCertHeader: cfg.ClientCertHeader, Collectors: []prometheus.Collector{
		newBuildInfo(), certificates{"api": listenerExpires(serverConfig)},
	}})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 2)
	synced := make(chan struct{}) // closed when the SDK has saved its cache and ended
	go func() {
		defer close(synced)
		failed <- g.Run(run)
	}()
	go func() { failed <- srv.Serve(l) }()
	line, err := json.Marshal(map[string]string{"msg": "ready", "listen": l.Addr().String()})
	if err != nil {
		return err
	}
	if _, err := io.Out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("print the ready line: %w", err)
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	shut := srv.Shutdown(drain)
	stop()
	select {
	case <-synced:
	case <-drain.Done():
		shut = errors.Join(shut, errors.New("the gateway did not end in time; its cache file may be missing"))
	}
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, shut)
	}
	return shut
}

// newGatewayOf makes the SDK's gateway from the configuration.
func newGatewayOf(cfg config.Gateway, change func(*gateway.Config)) (*gateway.Gateway, error) {
	if _, err := os.ReadFile(cfg.CredentialFile); err != nil {
		return nil, config.NewError("credential_file", err.Error(), "name the file with the credential that 'keyraft gateway register' gave")
	}
	c := gateway.Config{
		CredentialFile: cfg.CredentialFile, Instance: cfg.Name, CacheFile: cfg.CacheFile, FailMode: gateway.FailMode(cfg.FailMode),
		MaxStaleness: cfg.MaxStaleness, CacheBytes: int64(cfg.DecisionCache),
	}
	for _, n := range cfg.Nodes {
		if !strings.Contains(n, "://") {
			n = "http://" + n
		}
		c.Nodes = append(c.Nodes, strings.TrimSuffix(n, "/"))
	}
	if cfg.CACert != "" {
		pem, err := os.ReadFile(cfg.CACert)
		if err != nil {
			return nil, config.NewError("cacert", err.Error(), "name a PEM file with the authorities of the nodes' certificates")
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, config.NewError("cacert", "holds no certificate", "name a PEM file with the authorities of the nodes' certificates")
		}
		c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if cfg.GossipAddr != "" {
		key, err := gossipKey(cfg.GossipKeyFile)
		if err != nil {
			return nil, err
		}
		c.Gossip = &gateway.Gossip{BindAddr: cfg.GossipAddr, AdvertiseAddr: cfg.GossipAdvertise, Key: key}
	}
	change(&c)
	return gateway.New(c)
}

func gossipKey(file string) ([]byte, error) {
	const fix = "name the file with the gossip_key that came with the credential"
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, config.NewError("gossip_key_file", err.Error(), fix)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != 32 {
		return nil, config.NewError("gossip_key_file", "holds no 32-byte key in base64", fix)
	}
	return key, nil
}
