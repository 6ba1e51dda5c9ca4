package scim

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

// Auth adds the credentials of a target to a request. The credentials are asked
// for at each call, so that a rotated secret file is picked up; they are never
// logged and never stand in an Error.
type Auth interface {
	authorize(req *http.Request) error
}

// renewer is an Auth that can have its credentials anew. renew gets the Authorization
// header that was refused, and says whether another try makes sense.
type renewer interface {
	renew(bore string) bool
}

// None sends no credentials.
type None struct{}

func (None) authorize(*http.Request) error { return nil }

// Basic is HTTP Basic authentication (RFC 7617).
type Basic struct {
	Username string
	Password func() (string, error)
}

func (b Basic) authorize(req *http.Request) error {
	password, err := b.Password()
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	req.SetBasicAuth(b.Username, password)
	return nil
}

// Bearer is a bearer token (RFC 6750), or a token behind another word.
type Bearer struct {
	Scheme string // Bearer when empty
	Token  func() (string, error)
}

func (b Bearer) authorize(req *http.Request) error {
	token, err := b.Token()
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	req.Header.Set("Authorization", cmp.Or(b.Scheme, "Bearer")+" "+strings.TrimSpace(token))
	return nil
}

// Header is a secret in a header of its own.
type Header struct {
	Name  string
	Value func() (string, error)
}

func (h Header) authorize(req *http.Request) error {
	value, err := h.Value()
	if err != nil {
		return fmt.Errorf("read the value of %s: %w", h.Name, err)
	}
	req.Header.Set(h.Name, strings.TrimSpace(value))
	return nil
}

// Static is a credential that never changes.
func Static(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

// checkAuth says what is missing in an Auth.
func checkAuth(a Auth) error {
	switch a := a.(type) {
	case Basic:
		if a.Username == "" || a.Password == nil {
			return fmt.Errorf("auth.basic: %w", errIncompleteAuth)
		}
	case Bearer:
		if a.Token == nil {
			return fmt.Errorf("auth.bearer: %w", errIncompleteAuth)
		}
	case Header:
		if a.Name == "" || a.Value == nil {
			return fmt.Errorf("auth.header: %w", errIncompleteAuth)
		}
	case *ClientCredentials:
		if a.cfg.TokenURL == "" || a.cfg.ClientID == "" || a.cfg.ClientSecret == nil {
			return fmt.Errorf("auth.oauth2_client_credentials: %w", errIncompleteAuth)
		}
	}
	return nil
}
