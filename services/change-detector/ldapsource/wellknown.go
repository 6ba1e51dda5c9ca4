package ldapsource

// wellKnown are the attributes whose values do not compare like caseIgnoreMatch. It
// serves where the schema of a directory cannot be read.
var wellKnown = map[string]rule{
	"objectclass": objectClass, "structuralobjectclass": objectClass,
	"member": distinguishedName, "uniquemember": nameAndUID,
	"manager": distinguishedName, "secretary": distinguishedName,
	"owner": distinguishedName, "seealso": distinguishedName, "roleoccupant": distinguishedName,
	"managedby": distinguishedName, "directreports": distinguishedName, "entrydn": distinguishedName,
	"distinguishedname": distinguishedName, "creatorsname": distinguishedName,
	"modifiersname": distinguishedName, "aliasedobjectname": distinguishedName, "objectcategory": objectCategory,
	"uidnumber": integer, "gidnumber": integer, "useraccountcontrol": integer, "primarygroupid": integer,
	"samaccounttype": integer, "grouptype": integer, "usnchanged": integer, "usncreated": integer,
	"accountexpires": integer, "pwdlastset": integer, "lockouttime": integer, "badpwdcount": integer,
	"shadowmin": integer, "shadowmax": integer, "shadowwarning": integer, "shadowinactive": integer,
	"shadowexpire": integer, "shadowlastchange": integer, "shadowflag": integer,
	"msds-user-account-control-computed": integer, "instancetype": integer, "systemflags": integer,
	"telephonenumber": telephone, "homephone": telephone, "mobile": telephone, "pager": telephone,
	"homedirectory": caseExact, "loginshell": caseExact, "labeleduri": caseExact, "memberurl": caseExact,
	"memberuid":       caseExact,
	"createtimestamp": generalizedTime, "modifytimestamp": generalizedTime, "whencreated": generalizedTime,
	"whenchanged": generalizedTime, "postaladdress": caseIgnoreList, "homepostaladdress": caseIgnoreList,
	"objectguid": octets, "objectsid": sid, "jpegphoto": octets, "thumbnailphoto": octets,
	"usercertificate": octets, "usersmimecertificate": octets,
	"entryuuid": guid, "nsuniqueid": guid,
}

// wellKnownMatching is how an attribute compares of which no schema is known.
func wellKnownMatching(name string) matching {
	r, ok := wellKnown[name]
	if !ok {
		return matching{caseIgnore, numberOrText, caseIgnore}
	}
	return r.everywhere()
}

// everywhere uses one rule for equality, order and parts, as far as it has them.
func (r rule) everywhere() matching {
	m := matching{r, r, r}
	switch r {
	case distinguishedName, nameAndUID, objectClass, objectCategory, boolean, booleanExact, sid:
		m.ordering, m.substrings = noRule, noRule
	case integer, guid, generalizedTime:
		m.substrings = noRule
	default:
	}
	return m
}

// superclasses is what the standard object classes derive from: a server answers
// for (objectClass=person) with an inetOrgPerson.
var superclasses = map[string][]string{
	"inetorgperson": {"organizationalperson"}, "organizationalperson": {"person"},
	"residentialperson": {"person"}, "user": {"organizationalperson"}, "computer": {"user"},
}

// ruleNames are the matching rules by their names and OIDs, in lower case.
var ruleNames = map[string]rule{
	"objectidentifiermatch": caseIgnoreIA5, "2.5.13.0": caseIgnoreIA5,
	"distinguishednamematch": distinguishedName, "2.5.13.1": distinguishedName,
	"caseignorematch": caseIgnore, "2.5.13.2": caseIgnore,
	"caseignoreorderingmatch": caseIgnore, "2.5.13.3": caseIgnore,
	"caseignoresubstringsmatch": caseIgnore, "2.5.13.4": caseIgnore,
	"caseexactmatch": caseExact, "2.5.13.5": caseExact,
	"caseexactorderingmatch": caseExact, "2.5.13.6": caseExact,
	"caseexactsubstringsmatch": caseExact, "2.5.13.7": caseExact,
	"numericstringmatch": numericString, "2.5.13.8": numericString,
	"numericstringorderingmatch": numericString, "2.5.13.9": numericString,
	"numericstringsubstringsmatch": numericString, "2.5.13.10": numericString,
	"caseignorelistmatch": caseIgnoreList, "2.5.13.11": caseIgnoreList,
	"caseignorelistsubstringsmatch": caseIgnoreList, "2.5.13.12": caseIgnoreList,
	"booleanmatch": boolean, "2.5.13.13": boolean,
	"integermatch": integer, "2.5.13.14": integer,
	"integerorderingmatch": integer, "2.5.13.15": integer,
	"bitstringmatch": octets, "2.5.13.16": octets,
	"octetstringmatch": octets, "2.5.13.17": octets,
	"octetstringorderingmatch": octets, "2.5.13.18": octets,
	"octetstringsubstringsmatch": octets,
	"telephonenumbermatch":       telephone, "2.5.13.20": telephone,
	"telephonenumbersubstringsmatch": telephone, "2.5.13.21": telephone,
	"uniquemembermatch": nameAndUID, "2.5.13.23": nameAndUID,
	"generalizedtimematch": generalizedTime, "2.5.13.27": generalizedTime,
	"generalizedtimeorderingmatch": generalizedTime, "2.5.13.28": generalizedTime,
	"uuidmatch": guid, "1.3.6.1.1.16.2": guid,
	"uuidorderingmatch": guid, "1.3.6.1.1.16.3": guid,
	"caseexactia5match": caseExactIA5, "1.3.6.1.4.1.1466.109.114.1": caseExactIA5,
	"caseexactia5substringsmatch": caseExactIA5, "1.3.6.1.4.1.4203.1.2.1": caseExactIA5,
	"caseignoreia5match": caseIgnoreIA5, "1.3.6.1.4.1.1466.109.114.2": caseIgnoreIA5,
	"caseignoreia5substringsmatch": caseIgnoreIA5, "1.3.6.1.4.1.1466.109.114.3": caseIgnoreIA5,
	"csnmatch": caseExactIA5, "csnorderingmatch": caseExactIA5,
}

// Prefixes of the OIDs of syntaxes.
const (
	ldapSyntax = "1.3.6.1.4.1.1466.115.121.1."
	adSyntax   = "1.2.840.113556.1.4."
)

// syntaxes are the rules of attributes that name only a syntax, as all do in Active
// Directory, and those of some servers where the syntax brings the rules.
var syntaxes = map[string]rule{
	ldapSyntax + "15": caseIgnore, ldapSyntax + "44": caseExact, ldapSyntax + "26": caseExactIA5,
	ldapSyntax + "12": distinguishedName, ldapSyntax + "34": nameAndUID,
	ldapSyntax + "27": integer, ldapSyntax + "7": boolean, ldapSyntax + "24": generalizedTime,
	ldapSyntax + "40": octets, ldapSyntax + "5": octets, ldapSyntax + "6": octets, ldapSyntax + "28": octets,
	ldapSyntax + "50": telephone, ldapSyntax + "36": numericString, ldapSyntax + "41": caseIgnoreList,
	ldapSyntax + "38": caseIgnoreIA5, "1.3.6.1.1.16.1": guid,
	adSyntax + "905": caseIgnore, adSyntax + "906": integer, adSyntax + "1362": caseExact,
	adSyntax + "907": noRule, ldapSyntax + "8": noRule,
}
