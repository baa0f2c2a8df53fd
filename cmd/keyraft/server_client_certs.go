package main

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/internal/config"
)

// clientCAs reads the authorities of clients, and again when the file has changed; the
// ones before stand while it can't be read.
type clientCAs struct {
	file string
	log  *slog.Logger

	mu      sync.Mutex
	changed time.Time
	pool    *x509.CertPool
}

// newClientCAs reads the file; "" is none.
func newClientCAs(file string, log *slog.Logger) (*clientCAs, error) {
	c := &clientCAs{file: file, log: log}
	if file == "" {
		return c, nil
	}
	if err := c.read(); err != nil {
		return nil, config.NewError("tls.client_ca_file", err.Error(), "give a PEM file with the authorities of client certificates")
	}
	return c, nil
}

// get is the pool of now; nil without a file.
func (c *clientCAs) get() *x509.CertPool {
	if c.file == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(); err != nil {
		c.log.Error("the authorities of client certificates can't be read; those read before stand", "file", c.file, "err", err)
	}
	return c.pool
}

func (c *clientCAs) read() error {
	info, err := os.Stat(c.file)
	if err != nil || c.pool != nil && info.ModTime().Equal(c.changed) {
		return err
	}
	text, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return errors.New("it holds no certificate")
	}
	c.pool, c.changed = pool, info.ModTime()
	return nil
}

// clientCerts says where certificates of clients come from; nil: there are none.
func clientCerts(cfg *config.Config) *httpapi.ClientCerts {
	if !cfg.TLS.AsksClients() && cfg.Proxy.ClientCertHeader == "" {
		return nil
	}
	return &httpapi.ClientCerts{Header: cfg.Proxy.ClientCertHeader}
}

// proxies are those that are believed about their clients.
func proxies(cfg *config.Config) (httpapi.Proxies, error) {
	var out httpapi.Proxies
	for _, text := range cfg.Proxy.Trusted {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, config.NewError("proxy.trusted", err.Error(), "write it as 10.0.0.5/32 or fd00::/8")
		}
		out = append(out, network)
	}
	return out, nil
}
