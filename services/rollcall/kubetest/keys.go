//go:build linux

package kubetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// accounts are who may speak with the API server, by the name of the file that says
// how, with their groups.
var accounts = map[string]struct{ user, groups string }{ //nolint:gochecknoglobals // a table
	"admin":      {"admin", "system:masters"},
	"controller": {"system:kube-controller-manager", ""},
	"scheduler":  {"system:kube-scheduler", ""},
	"kubelet":    {"system:node:" + nodeName, "system:nodes"},
	"proxy":      {"system:kube-proxy", ""},
	"dns":        {"system:coredns", ""},
	"kwok":       {"system:kwok", "system:masters"},
}

// writeKeys writes what the parts prove themselves with: a CA and what it signed for
// the API server and for what stands before it, the key that signs the tokens of
// service accounts, and a token for each account with its kubeconfig.
func writeKeys(dir, server string, address net.IP) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	api := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		IPAddresses: []net.IP{address, net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	}
	proxy := &x509.Certificate{Subject: pkix.Name{Organization: []string{"system:masters"}, CommonName: "front-proxy"}}
	for name, certificate := range map[string]*x509.Certificate{"api": api, "proxy": proxy} {
		if err := ca.write(dir, name, certificate); err != nil {
			return err
		}
	}
	if err := write(dir, "ca.crt", pemBlock("CERTIFICATE", ca.certificate.Raw)); err != nil {
		return err
	}
	if err := writeSigner(dir); err != nil {
		return err
	}
	var tokens strings.Builder
	for name, account := range accounts {
		secret := make([]byte, 16)
		_, _ = rand.Read(secret) // never fails
		token := hex.EncodeToString(secret)
		fmt.Fprintf(&tokens, "%s,%[2]s,%[2]s,%q\n", token, account.user, account.groups)
		text := fmt.Sprintf(kubeconfig, server, base64.StdEncoding.EncodeToString([]byte(pemBlock("CERTIFICATE", ca.certificate.Raw))), token)
		if err := write(dir, name+".conf", text); err != nil {
			return err
		}
	}
	return write(dir, "tokens.csv", tokens.String())
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`

// authority signs certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	serial      int64
}

func newAuthority() (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	template := a.complete(&x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	a.certificate, err = x509.ParseCertificate(raw)
	return a, err
}

// complete gives a certificate a number and a time.
func (a *authority) complete(c *x509.Certificate) *x509.Certificate {
	a.serial++
	c.SerialNumber = big.NewInt(a.serial)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	return c
}

// write signs a certificate and writes it with its key: NAME.crt and NAME.key.
func (a *authority) write(dir, name string, c *x509.Certificate) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	raw, err := x509.CreateCertificate(rand.Reader, a.complete(c), a.certificate, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	if err := write(dir, name+".crt", pemBlock("CERTIFICATE", raw)); err != nil {
		return err
	}
	return writeKey(dir, name+".key", key)
}

// writeSigner writes the key pair of service accounts' tokens.
func writeSigner(dir string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the key of service accounts: %w", err)
	}
	if err := write(dir, "accounts.pub", pemBlock("PUBLIC KEY", public)); err != nil {
		return err
	}
	return writeKey(dir, "accounts.key", key)
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return write(dir, name, pemBlock("EC PRIVATE KEY", raw))
}

func pemBlock(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func write(dir, name, text string) error {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
