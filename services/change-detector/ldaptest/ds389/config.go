package ds389

import (
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	data    = "/usr/share/dirsrv/data"
	plugins = ",cn=plugins,cn=config"
)

// settings are what is added to the server's own template, or put in the place of
// what it has, by entry.
var settings = map[string]map[string]string{
	"cn=config": {
		"nsslapd-listenhost": "127.0.0.1", "nsslapd-securelistenhost": "127.0.0.1",
		"nsslapd-security": "on", "nsslapd-securePort": "%secure_port%", "nsslapd-defaultnamingcontext": Suffix,
	},
	"cn=config,cn=ldbm database" + plugins: {
		"nsslapd-cache-autosize": "0", "nsslapd-dbcachesize": "8000000", "nsslapd-db-durable-transaction": "off",
	},
	"cn=Content Synchronization" + plugins:             {"nsslapd-pluginEnabled": "on"},
	"cn=Retro Changelog Plugin" + plugins:              {"nsslapd-pluginEnabled": "on", "nsslapd-attribute": "nsuniqueid:targetUniqueId"},
	"cn=MemberOf Plugin" + plugins:                     {"nsslapd-pluginEnabled": "on", "memberOfGroupAttr": "member", "memberOfAutoAddOC": "nsMemberOf"},
	"cn=referential integrity postoperation" + plugins: {"nsslapd-pluginEnabled": "on"},
}

// writeConfig writes dse.ldif and what it names. The server has a tool for that,
// which insists on directories of the system; its templates do not.
func writeConfig(dir, port, securePort, password string) error {
	for _, name := range []string{"schema", "lock", "tmp", "ldif", "bak", "run", "log", "db", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("make a directory of the server: %w", err)
		}
	}
	for from, to := range map[string]string{
		"/etc/dirsrv/schema/99user.ldif": "schema", "/etc/dirsrv/config/certmap.conf": "", "/etc/dirsrv/config/slapd-collations.conf": "",
	} {
		content, err := os.ReadFile(from) //nolint:gosec // of the package
		if err != nil {
			return fmt.Errorf("read the server's own files: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, to, filepath.Base(from)), content, 0o600); err != nil { //nolint:gosec // our own scratch directory
			return fmt.Errorf("write the server's configuration: %w", err)
		}
	}
	template, err := readTemplate()
	if err != nil {
		return err
	}
	values, err := values(dir, port, securePort, password)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "dse.ldif"), []byte(fill(template, values)), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return nil
}

// readTemplate is the server's template of a configuration with one database, with
// our settings.
func readTemplate() (string, error) {
	var entries []string
	for _, name := range []string{"template-dse.ldif", "template-suffix-db.ldif"} {
		content, err := os.ReadFile(filepath.Join(data, name)) //nolint:gosec // our own template
		if err != nil {
			return "", fmt.Errorf("read the server's templates: %w", err)
		}
		text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(content), "")
		entries = append(entries, strings.Split(strings.TrimSpace(text), "\n\n")...)
	}
	found := 0
	for i, entry := range entries {
		dn, _, _ := strings.Cut(strings.TrimPrefix(entry, "dn: "), "\n")
		if set, ok := settings[dn]; ok {
			found++
			entries[i] = replace(entry, set)
		}
	}
	if found != len(settings) {
		return "", fmt.Errorf("read the server's templates: %d of %d entries are there", found, len(settings))
	}
	return strings.Join(entries, "\n\n") + "\n", nil
}

// replace gives an entry other values.
func replace(entry string, set map[string]string) string {
	var lines []string
	for line := range strings.Lines(entry) {
		name, _, _ := strings.Cut(line, ":")
		replaced := false
		for key := range set {
			replaced = replaced || strings.EqualFold(key, name)
		}
		if !replaced {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	for key, value := range set {
		lines = append(lines, key+": "+value)
	}
	return strings.Join(lines, "\n")
}

func values(dir, port, securePort, password string) (map[string]string, error) {
	self, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("ask who runs the server: %w", err)
	}
	values := map[string]string{
		"cert_dir": dir, "inst_dir": dir, "config_dir": dir, "ldapi": filepath.Join(dir, "run", "ldapi"),
		"ldapi_enabled": "off", "ldapi_autobind": "off", "fqdn": "localhost", "ds_port": port, "secure_port": securePort,
		"ds_user": self.Username, "rootdn": "cn=Directory Manager", "ds_passwd": "{CLEAR}" + password,
		"ds_suffix": Suffix, "ds_bename": "userRoot", "db_home_dir": filepath.Join(dir, "home"), "db_lib": "bdb",
	}
	for _, name := range []string{"schema", "lock", "tmp", "ldif", "bak", "run", "log", "db"} {
		values[name+"_dir"] = filepath.Join(dir, name)
	}
	return values, nil
}

// fill puts values in the place of a template's %names%.
func fill(template string, values map[string]string) string {
	return regexp.MustCompile(`%(\w+)%`).ReplaceAllStringFunc(template, func(name string) string {
		return values[strings.Trim(name, "%")]
	})
}

func port(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Port()
}
