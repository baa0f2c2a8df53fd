package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyraft/keyraft/internal/config"
)

// serverTLS is the API's TLS; nil for plain HTTP.
func serverTLS(cfg *config.Config) (*tls.Config, error) {
	conf, err := certificateTLS(cfg)
	if conf != nil && cfg.TLS.AsksClients() {
		// Whose certificate is good for what is judged by each request (clients), so
		// nothing is verified here but that the peer holds the key.
		conf.ClientAuth = tls.RequestClientCert
	}
	return conf, err
}

func certificateTLS(cfg *config.Config) (*tls.Config, error) {
	switch {
	case cfg.TLS.On():
		files := &certFiles{cert: cfg.TLS.CertFile, key: cfg.TLS.KeyFile}
		if _, err := files.get(nil); err != nil {
			return nil, config.NewError("tls.cert_file", err.Error(), "give the PEM files of a certificate and of its private key")
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: ciphers12(), GetCertificate: files.get}, nil
	case cfg.DevTLS:
		cert, err := keptDevCertificate(cfg)
		if err != nil {
			return nil, fmt.Errorf("make a certificate for --dev-tls: %w", err)
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: ciphers12(), Certificates: []tls.Certificate{*cert}}, nil
	}
	return nil, nil
}

// ciphers12 are the cipher suites of TLS 1.2 that RFC 9325 §4.2 recommends, and FAPI 2.0
// §5.2.2.1 demands; those of TLS 1.3 are all good.
func ciphers12() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	}
}

// certFiles reads a certificate again when its file has changed, so that a
// renewal needs no restart.
type certFiles struct {
	cert, key string

	mu      sync.Mutex
	changed time.Time
	loaded  *tls.Certificate
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err != nil {
		if f.loaded != nil {
			return f.loaded, nil // being replaced; the old one serves on
		}
		return nil, err
	}
	if f.loaded != nil && info.ModTime().Equal(f.changed) {
		return f.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.loaded != nil {
			return f.loaded, nil
		}
		return nil, err
	}
	f.loaded, f.changed = &pair, info.ModTime()
	return f.loaded, nil
}

// Files of --dev-tls in the data folder. The certificate is what clients trust
// (KEYRAFT_CACERT).
const (
	devCertFile = "dev-tls.pem"
	devKeyFile  = "dev-tls-key.pem"
)

// keptDevCertificate is the certificate of --dev-tls, kept between runs while it
// is valid for this address.
func keptDevCertificate(cfg *config.Config) (*tls.Certificate, error) {
	certFile, keyFile := filepath.Join(cfg.Data, devCertFile), filepath.Join(cfg.Data, devKeyFile)
	host, _, err := net.SplitHostPort(cfg.APIAddr)
	if err != nil {
		return nil, err
	}
	if kept, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil && kept.Leaf != nil &&
		time.Until(kept.Leaf.NotAfter) > 30*24*time.Hour && (host == "" || kept.Leaf.VerifyHostname(host) == nil) {
		return &kept, nil
	}
	made, err := devCertificate(cfg.APIAddr)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, err
	}
	return made, errors.Join(
		writePrivate(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		writePrivate(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})),
	)
}

// devCertificate is self-signed for this address and localhost, valid for a year.
func devCertificate(addr string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "keyraft --dev"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else if ip == nil && host != "" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
