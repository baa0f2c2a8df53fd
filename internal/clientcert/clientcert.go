// Package clientcert reads the certificate of a client from a header of the proxy that
// has ended its TLS (RFC 9440), and names certificates as tokens do (RFC 8705). Whether
// the proxy is to be believed is for the caller to say.
package clientcert

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"strings"
)

const maxHeader = 12 << 10 // bytes

// Parse reads a byte sequence of structured fields (RFC 8941 §3.3.5) that is
// one certificate, or percent-encoded PEM of one. nil for anything else.
func Parse(value string) *x509.Certificate {
	if len(value) > maxHeader {
		return nil
	}
	var der []byte
	if strings.HasPrefix(value, "-----BEGIN") {
		text, err := url.PathUnescape(value)
		if err != nil {
			return nil
		}
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil
		}
		der = block.Bytes
	} else {
		if len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' || strings.ContainsAny(value, "\r\n") {
			return nil
		}
		var err error
		if der, err = base64.StdEncoding.Strict().DecodeString(value[1 : len(value)-1]); err != nil {
			return nil
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return cert
}

// Thumbprint is the x5t#S256 of a certificate in DER (RFC 8705 §3.1); "" for none.
func Thumbprint(der []byte) string {
	if len(der) == 0 {
		return ""
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
