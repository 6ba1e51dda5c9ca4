package scim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// authority signs certificates for 127.0.0.1, of servers and clients.
type authority struct {
	key *ecdsa.PrivateKey
	ca  *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	pair := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.key, _ = pair.PrivateKey.(*ecdsa.PrivateKey)
	var err error
	if a.ca, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(t *testing.T, c *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.ca, a.key
	if parent == nil {
		parent, signer = c, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (a *authority) server(t *testing.T) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (a *authority) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// store writes a certificate with its key into one file.
func store(t *testing.T, file string, pair tls.Certificate) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	if key, ok := pair.PrivateKey.(*ecdsa.PrivateKey); ok {
		raw, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A target wants a client certificate, and says whose. Certificate and authority are
// replaced while the client works; what is half written changes nothing.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t), newAuthority(t)
	current := make(chan *authority, 1)
	current <- first
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", scim.ContentType)
		_, _ = w.Write([]byte(`{"id":"1","userName":"` + r.TLS.PeerCertificates[0].Subject.CommonName + `"}`))
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		a := <-current
		current <- a
		pool := x509.NewCertPool()
		pool.AddCert(a.ca)
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.server(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)

	dir := t.TempDir()
	caFile, ownFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "own.pem")
	store(t, caFile, tls.Certificate{Certificate: [][]byte{first.ca.Raw}})
	store(t, ownFile, first.client(t, "ada"))
	client := clientWith(t, scim.Config{URL: server.URL, TLSFiles: []string{caFile, ownFile}, TLS: func() (*tls.Config, error) {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, errors.New("no certificate")
		}
		own, err := tls.LoadX509KeyPair(ownFile, ownFile)
		return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, err
	}})
	whoAmI := func() string {
		r, err := client.Get(t.Context(), scim.KindUser, "1")
		if err != nil {
			return err.Error()
		}
		name, _ := r.Value("userName")
		text, _ := name.(string)
		return text
	}
	until := func(want string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		got := whoAmI()
		for got != want && time.Now().Before(deadline) { // files are looked at once a second
			got = whoAmI()
		}
		if got != want {
			t.Fatalf("the target knows %q, want %q", got, want)
		}
	}
	until("ada")
	if err := os.WriteFile(ownFile, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := whoAmI(); got != "ada" {
			t.Fatalf("with half a file: %q", got)
		}
	}
	store(t, ownFile, first.client(t, "bob"))
	until("bob")
	<-current
	current <- second
	store(t, caFile, tls.Certificate{Certificate: [][]byte{second.ca.Raw}})
	store(t, ownFile, second.client(t, "cid"))
	until("cid")
}

func TestProxyIsAsked(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		w.Header().Set("Content-Type", scim.ContentType)
		_, _ = w.Write([]byte(`{"id":"1"}`))
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := clientWith(t, scim.Config{URL: "http://wiki.example.com/scim", Proxy: address})
	if _, err := client.Get(t.Context(), scim.KindUser, "1"); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "http://wiki.example.com/scim/Users/1" {
		t.Errorf("the proxy was asked for %s", got)
	}
}

func TestCredentialsOfAnotherForm(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		auth         scim.Auth
		header, want string
	}{
		"scheme word": {scim.Bearer{Scheme: "Token", Token: scim.Static("abc\n")}, "Authorization", "Token abc"},
		"header":      {scim.Header{Name: "X-Api-Key", Value: scim.Static("abc\n")}, "X-Api-Key", "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			at := handler(t, func(w http.ResponseWriter, r *http.Request) {
				got <- r.Header.Get(test.header)
				_, _ = w.Write([]byte(`{"id":"1"}`))
			})
			if _, err := clientWith(t, scim.Config{URL: at, Auth: test.auth}).Get(t.Context(), scim.KindUser, "1"); err != nil {
				t.Fatal(err)
			}
			if sent := <-got; sent != test.want {
				t.Errorf("%s: %q, want %q", test.header, sent, test.want)
			}
		})
	}
}
