package mapping

import "strings"

// passwordAttributes hold passwords, hashes of them, or keys, in the directories
// that we know. They never leave the directory.
var passwordAttributes = map[string]bool{
	"userpassword":                    true,
	"unicodepwd":                      true,
	"dbcspwd":                         true,
	"ntpwdhistory":                    true,
	"lmpwdhistory":                    true,
	"supplementalcredentials":         true,
	"authpassword":                    true,
	"pwdhistory":                      true,
	"passwordhistory":                 true,
	"sambantpassword":                 true,
	"sambalmpassword":                 true,
	"sambapasswordhistory":            true,
	"ipanthash":                       true,
	"ipatokenotpkey":                  true,
	"krbprincipalkey":                 true,
	"krbpwdhistory":                   true,
	"krbmkey":                         true,
	"krb5key":                         true,
	"goauthpassword":                  true,
	"olcrootpw":                       true,
	"orclpassword":                    true,
	"unixuserpassword":                true,
	"msds-managedpassword":            true,
	"ms-mcs-admpwd":                   true,
	"mslaps-password":                 true,
	"mslaps-encryptedpassword":        true,
	"mslaps-encryptedpasswordhistory": true,
	"ms-fve-recoverypassword":         true,
	"msfve-recoverypassword":          true,
	"msfve-keypackage":                true,
	"trustauthincoming":               true,
	"trustauthoutgoing":               true,
	"initialauthincoming":             true,
	"initialauthoutgoing":             true,
	"currentvalue":                    true,
	"priorvalue":                      true,
	"nsslapd-rootpw":                  true,
	"nsmultiplexorcredentials":        true,
	"nsds5replicacredentials":         true,
	"ds-cfg-password":                 true,
	"ds-pwp-retired-password":         true,
	"pwmresponseset":                  true,
	"oathsecret":                      true,
	"privatekey":                      true,
	"userpkcs12":                      true,
	"sshprivatekey":                   true,
}

// Forbidden reports whether the directory attribute of this name, in any case
// and with any options, holds passwords and must not be read.
func Forbidden(name string) bool {
	base, _, _ := strings.Cut(strings.ToLower(name), ";")
	return passwordAttributes[base]
}
