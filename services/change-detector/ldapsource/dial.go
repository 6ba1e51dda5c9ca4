package ldapsource

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Defaults for time-outs that the configuration leaves out.
const (
	defaultConnectTimeout = 10 * time.Second
	defaultReadTimeout    = 30 * time.Second
)

// endpoint is one server: a session stays on it, because another replica may be
// behind. The zero endpoint is any of the configured URLs.
type endpoint struct {
	url     string
	address string // host:port as resolved for the first connection
}

// conn is a bound connection. The raw connection is kept because only closing that
// ends every wait: go-ldap's own Close can wait for a consumer.
type conn struct {
	*ldap.Conn
	endpoint

	raw      *rawConn
	patience time.Duration
	lapsed   atomic.Bool
	stop     func() bool
}

// rawConn counts what it reads, so that a watchdog can tell slow from stuck.
type rawConn struct {
	net.Conn
	received atomic.Uint64
}

// Read reads and counts.
func (c *rawConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(uint64(max(n, 0)))
	return n, err
}

// checkLDAP reports every fault of the configuration that would make dialling
// impossible or unsafe.
func (s *Source) checkLDAP() []error {
	var faults []error
	if len(s.cfg.LDAP.URLs) == 0 {
		faults = append(faults, fmt.Errorf("%s: name at least one server, such as ldaps://ldap.example.com", s.key("ldap.urls")))
	}
	for _, text := range s.cfg.LDAP.URLs {
		if err := s.checkURL(text); err != nil {
			faults = append(faults, err)
		}
	}
	if (s.cfg.LDAP.ClientCertificate == "") != (s.cfg.LDAP.ClientKey == "") {
		faults = append(faults, fmt.Errorf("%s: set client_certificate and client_key, or neither", s.key("ldap.client_certificate")))
	}
	if s.cfg.LDAP.BindDN != "" && s.deps.Password == nil {
		faults = append(faults, fmt.Errorf("%s: set it, bind_dn needs a password", s.key("ldap.bind_password")))
	}
	return faults
}

func (s *Source) checkURL(text string) error {
	key := s.key("ldap.urls")
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	switch {
	case u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "":
		return fmt.Errorf("%s: %q must be ldap://host or ldaps://host", key, text)
	case u.Scheme == "ldaps" && s.cfg.LDAP.StartTLS:
		return fmt.Errorf("%s: %q has TLS from the start; use ldap:// or take start_tls away", key, text)
	case s.cfg.LDAP.BindDN != "" && u.Scheme == "ldap" && !s.cfg.LDAP.StartTLS && !s.cfg.LDAP.Insecure && !loopback(u.Hostname()):
		return fmt.Errorf("%s: %q would send the password in clear text; use ldaps:// or start_tls: true, or accept it with insecure: true", key, text)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dial connects and binds: to the given endpoint, or to the first of the
// configured servers that answers. Refused credentials end the search, so that no
// account gets locked. The end of ctx closes the connection.
func (s *Source) dial(ctx context.Context, at endpoint) (*conn, error) {
	if at.url != "" {
		return s.dialOne(ctx, at)
	}
	var faults []error
	for _, u := range s.cfg.LDAP.URLs {
		c, err := s.dialOne(ctx, endpoint{url: u})
		if err == nil {
			return c, nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil || isCode(err, ldap.LDAPResultInvalidCredentials) {
			break
		}
	}
	return nil, errors.Join(faults...)
}

func (s *Source) dialOne(ctx context.Context, at endpoint) (*conn, error) {
	u, err := url.Parse(at.url)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.key("ldap.urls"), err)
	}
	address := at.address
	if address == "" {
		address = hostPort(u)
	}
	timeout := orDefault(s.cfg.LDAP.ConnectTimeout, defaultConnectTimeout)
	dialer := net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4,
	}}
	tcp, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w: check %s, and that the server runs", at.url, err, s.key("ldap.urls"))
	}
	at.address = tcp.RemoteAddr().String()
	c := &conn{
		endpoint: at, raw: &rawConn{Conn: tcp},
		patience: orDefault(s.cfg.LDAP.ReadTimeout, defaultReadTimeout),
	}
	c.stop = context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	if err := s.secure(ctx, c, u, timeout); err != nil {
		c.close()
		return nil, err
	}
	if err := s.bind(ctx, c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// secure puts TLS on the connection where the configuration says so, and starts it.
func (s *Source) secure(ctx context.Context, c *conn, u *url.URL, timeout time.Duration) error {
	withTLS := u.Scheme == "ldaps"
	if !withTLS && !s.cfg.LDAP.StartTLS {
		c.Conn = ldap.NewConn(c.raw, false)
		c.Start()
		return nil
	}
	config, err := s.tlsConfig(u.Hostname())
	if err != nil {
		return err
	}
	if !withTLS {
		c.Conn = ldap.NewConn(c.raw, false)
		c.Start()
		if err := c.within(func() error { return c.StartTLS(config) }); err != nil {
			return s.tlsFault(c.url, err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	encrypted := tls.Client(c.raw, config)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return s.handshakeFault(c.url, err)
	}
	c.Conn = ldap.NewConn(encrypted, true)
	c.Start()
	return nil
}

// handshakeFault tells a port that does not speak TLS from the start, which answers in
// another protocol or hangs up, from a certificate that is not accepted.
func (s *Source) handshakeFault(at string, err error) error {
	if _, other := errors.AsType[tls.RecordHeaderError](err); other || hungUp(err) {
		return fmt.Errorf("start TLS with %s: %w: the port does not speak TLS from the start; write the port of ldaps (636), or ldap:// with start_tls: true, in %s",
			at, err, s.key("ldap.urls"))
	}
	return s.tlsFault(at, err)
}

// clearFault adds to a request without TLS that got no answer of LDAP that the port may
// want it.
func (s *Source) clearFault(at string, err error) error {
	answer, is := errors.AsType[*ldap.Error](err)
	if !strings.HasPrefix(at, "ldap:") || s.cfg.LDAP.StartTLS || is && answer.ResultCode < ldap.ErrorNetwork {
		return err
	}
	return fmt.Errorf("%w; where the port speaks TLS from the start, write ldaps:// in %s", err, s.key("ldap.urls"))
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *Source) tlsFault(at string, err error) error {
	return fmt.Errorf("start TLS with %s: %w: check %s, client_certificate and the names in the server's certificate",
		at, err, s.key("ldap.ca_file"))
}

// tlsConfig reads the files at each connect, so that renewed certificates work.
func (s *Source) tlsConfig(host string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if file := s.cfg.LDAP.CAFile; file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator's own configuration
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.key("ldap.ca_file"), err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", s.key("ldap.ca_file"), file)
		}
	}
	if s.cfg.LDAP.ClientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.LDAP.ClientCertificate, s.cfg.LDAP.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("%s and client_key: %w", s.key("ldap.client_certificate"), err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// bind says who we are: by password, by client certificate, or not at all.
func (s *Source) bind(ctx context.Context, c *conn) error {
	dn := s.cfg.LDAP.BindDN
	if dn == "" {
		if s.cfg.LDAP.ClientCertificate == "" {
			return nil
		}
		if err := c.within(c.ExternalBind); err != nil {
			return fmt.Errorf("bind by client certificate to %s: %w: check %s", c.url, err, s.key("ldap.client_certificate"))
		}
		return nil
	}
	password, err := s.deps.Password(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", s.key("ldap.bind_password"), err)
	}
	if password == "" {
		return fmt.Errorf("%s: it is empty, and an empty password binds as nobody", s.key("ldap.bind_password"))
	}
	if err := c.within(func() error { return c.Bind(dn, password) }); err != nil {
		return fmt.Errorf("bind to %s: %w", c.url, s.clearFault(c.url, s.cure(err, "")))
	}
	return nil
}

// within runs one request and closes the connection when the server sends nothing
// for the read time-out.
func (c *conn) within(request func() error) error {
	done := make(chan struct{})
	go c.guard(done)
	err := request()
	close(done)
	return c.explain(err)
}

func (c *conn) guard(done <-chan struct{}) {
	ticker := time.NewTicker(c.patience)
	defer ticker.Stop()
	for received := c.raw.received.Load(); ; {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		now := c.raw.received.Load()
		if now == received {
			c.abandon()
			return
		}
		received = now
	}
}

// next waits for the next message of a stream, not longer than the read time-out
// where bounded. Time that the consumer takes does not count.
func (c *conn) next(r ldap.Response, bounded bool) bool {
	if !bounded {
		return r.Next()
	}
	watchdog := time.AfterFunc(c.patience, c.abandon)
	defer watchdog.Stop()
	return r.Next()
}

func (c *conn) abandon() {
	c.lapsed.Store(true)
	_ = c.raw.Close()
}

// errSilent says that the watchdog closed a connection.
var errSilent = errors.New("the directory server does not answer")

// explain says that it was the watchdog that closed the connection.
func (c *conn) explain(err error) error {
	if c.lapsed.Load() {
		return fmt.Errorf("%w: %s sent nothing for %s (ldap.read_timeout)", errSilent, c.url, c.patience)
	}
	return err
}

// close ends the connection, whatever it is doing, and waits for its goroutines.
func (c *conn) close() {
	c.stop()
	_ = c.raw.Close()
	if c.Conn != nil {
		_ = c.Close()
	}
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "ldaps":
		port = ldap.DefaultLdapsPort
	default:
		port = ldap.DefaultLdapPort
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
