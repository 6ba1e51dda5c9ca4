package connection

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	attributeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
)

// checkValue reports what is wrong with one value by itself: its choice, its
// range and its form. The faults have only a problem and a cure.
func checkValue(k key, text string, v reflect.Value) Faults {
	if k.enum != nil && !slices.Contains(k.enum, text) {
		return Faults{{Problem: fmt.Sprintf("%q is no choice", text), Cure: choose(text, k.enum)}}
	}
	if f, ok := checkRange(k, v); !ok {
		return Faults{f}
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	return checkForm(k.form, text)
}

// checkRange checks a number, or a duration in seconds.
func checkRange(k key, v reflect.Value) (Fault, bool) {
	if k.min == 0 && k.max == 0 {
		return Fault{}, true
	}
	var number float64
	write := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch value := v.Interface().(type) {
	case time.Duration:
		number = value.Seconds()
		write = func(f float64) string { return formatDuration(time.Duration(f * float64(time.Second))) }
	case int:
		number = float64(value)
	case float64:
		number = value
	default:
		return Fault{}, true
	}
	if number >= k.min && number <= k.max || k.zero && number == 0 {
		return Fault{}, true
	}
	low := write(k.min)
	if low == "" {
		low = "0"
	}
	return Fault{Problem: "is out of range", Cure: fmt.Sprintf("use %s to %s", low, write(k.max))}, false
}

// checkForm checks what a text must look like.
func checkForm(f form, text string) Faults {
	var problem, cure string
	switch f {
	case formUserBool:
		return checkExpression(directoryv1.Kind_KIND_USER, text, mapping.CompileBool)
	case formGroupBool:
		return checkExpression(directoryv1.Kind_KIND_GROUP, text, mapping.CompileBool)
	case formUserValue:
		return checkExpression(directoryv1.Kind_KIND_USER, text, mapping.Compile)
	case formGroupValue:
		return checkExpression(directoryv1.Kind_KIND_GROUP, text, mapping.Compile)
	case formDN:
		problem, cure = checkDN(text)
	case formFilter:
		problem, cure = errorText(checkFilter(text)), "write a filter such as (objectClass=inetOrgPerson)"
	case formListen:
		problem, cure = checkListen(text)
	case formLDAPURL:
		problem, cure = checkURL(text, "ldaps://dc1.example.com", "ldap", "ldaps")
	case formTargetURL:
		problem, cure = checkURL(text, "https://wiki.example.com/scim/v2", "http", "https")
	case formHTTPURL:
		problem, cure = checkURL(text, "https://otel.example.com:4318", "http", "https")
	case formNATSURL:
		problem, cure = checkNATS(text)
	case formAttribute:
		problem, cure = checkAttribute(text)
	case formPath:
		_, err := parsePath(text)
		problem, cure = errorText(err), "write a SCIM path such as name.givenName"
	case formName:
		problem, cure = checkName(text)
	case formCredentials, formAny:
	}
	if problem == "" {
		return nil
	}
	return Faults{{Problem: problem, Cure: cure}}
}

type compiler func(directoryv1.Kind, string) (*mapping.Expression, error)

func checkExpression(kind directoryv1.Kind, source string, compile compiler) Faults {
	_, err := compile(kind, source)
	if err == nil {
		return nil
	}
	var out Faults
	for _, f := range mapping.Faults(err) {
		at := mapping.SourceError{Line: f.Line, Column: f.Column, Problem: f.Problem}
		out = append(out, Fault{Problem: at.Error(), Cure: f.Cure})
	}
	if out == nil {
		return Faults{{Problem: err.Error()}}
	}
	return out
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func checkDN(text string) (problem, cure string) {
	return errorText(mapping.CheckDN(text)), "write a distinguished name such as ou=people,dc=example,dc=com"
}

func checkListen(text string) (problem, cure string) {
	const example = "write host:port, for example 127.0.0.1:8080"
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return "is no address", example
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "has no port number", example
	}
	return "", ""
}

// checkURL checks a URL without repeating it: it may hold a password.
func checkURL(text, example string, schemes ...string) (problem, cure string) {
	cure = "write an address such as " + example
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "is no URL", cure
	case !slices.Contains(schemes, strings.ToLower(u.Scheme)):
		return "must begin with " + alternatives(prefixes(schemes)), cure
	case u.Hostname() == "":
		return "has no host", cure
	case u.User != nil:
		return "holds a user name or a password", "write them at auth, as secrets"
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return "has a query or a fragment", cure
	case strings.HasPrefix(schemes[0], "ldap") && strings.Trim(u.Path, "/") != "":
		return "has a path", "write the base at base_dns"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "has a port that is out of range", cure
		}
	}
	return "", ""
}

func prefixes(schemes []string) []string {
	out := make([]string, len(schemes))
	for i, s := range schemes {
		out[i] = s + "://"
	}
	return out
}

func checkNATS(text string) (problem, cure string) {
	for one := range strings.SplitSeq(text, ",") {
		if problem, cure = checkURL(strings.TrimSpace(one), "nats://nats.example.com:4222", "nats", "tls", "ws", "wss"); problem != "" {
			if strings.HasPrefix(cure, "write them") {
				cure = "write them at nats.credentials"
			}
			return problem, cure
		}
	}
	return "", ""
}

func checkAttribute(text string) (problem, cure string) {
	switch {
	case !attributeForm.MatchString(text):
		return fmt.Sprintf("%q is no attribute name", text), "write a name such as uid"
	case mapping.Forbidden(text):
		return text + " holds passwords and cannot be read", "name another attribute"
	default:
		return "", ""
	}
}

func checkName(text string) (problem, cure string) {
	if nameForm.MatchString(text) {
		return "", ""
	}
	return fmt.Sprintf("%q is no name", text), "use 1 to 32 of a-z, 0-9 and hyphen"
}

// loopback reports whether host is this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
