// Package explain words the errors of package bedrocktoken for people who run the
// commands, and tells the proxy which of them may pass by themselves.
package explain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/outage"
)

// Error returns a line that says what was wrong and, where that is known, a second
// one that says what to do. Both are bounded and show no secrets. The profile is
// the one that the command was given, or empty.
func Error(err error, profile string) string { return Running("", err, profile) }

// Running is [Error] for a command that goes on running: it gets other flags and
// another environment only when it is started again.
func Running(command string, err error, profile string) string {
	all := rules(err, cmp.Or(profile, os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE")), command)
	first := all[slices.IndexFunc(all, func(r rule) bool { return r.seen })]
	return strings.TrimSuffix(oneLine(first.says)+"\n"+oneLine(first.advice), "\n")
}

// Temporary reports whether the source of the credentials does not answer or fails
// for the moment, so that a client may try again. That no credentials were found
// is not temporary: on a laptop the SDK notices it when nobody answers at the
// address of the EC2 metadata service.
func Temporary(err error) bool {
	return outage.Is(err) && !noneFound(err, sourceOf(err))
}

// A rule is what to print if something was seen: what was wrong, and what to do
// about it, which may be empty.
type rule struct {
	seen         bool
	says, advice string
}

// rules returns the rules for err. The first that was seen counts, and the last one
// always is.
func rules(err error, profile, command string) []rule {
	var (
		source        = sourceOf(err)
		text, refused = cause(err, source)
		has           = func(part string) bool { return strings.Contains(text, part) }

		noSource    config.SharedConfigAssumeRoleError
		noProfile   config.SharedConfigProfileNotExistError
		file        *fs.PathError
		isNoSource  = errors.As(err, &noSource)
		isNoProfile = errors.As(err, &noProfile)
		isFile      = errors.As(err, &file)
		isDenied    = isFile && (errors.Is(err, fs.ErrPermission) || has("read-only file system"))
		isNoRegion  = errors.Is(err, bedrocktoken.ErrRegion) && !has(`"`) // it quotes one that is wrong
		isNone      = noneFound(err, source)

		tilde, path = unexpanded()
		oneKey      = (os.Getenv("AWS_ACCESS_KEY_ID") == "") != (os.Getenv("AWS_SECRET_ACCESS_KEY") == "")
	)
	setKeys := "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, sign in with aws login or aws sso login, or name a profile with -profile."
	if command != "" {
		setKeys = "Sign in with aws login or aws sso login, or write keys into the shared credentials file; " +
			"or restart " + command + " with -profile or with keys in its environment."
	}
	const (
		setRegion = "Give -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."
	)
	signIn := func(command string) string {
		switch {
		case profile == "":
			return fmt.Sprintf("Sign in with %s.", command)
		case strings.Contains(err.Error(), "AssumeRole"): // it is the role's source that lacks one
			return fmt.Sprintf("Sign in with %s, for the source_profile of %.80q.", command, profile)
		}
		return fmt.Sprintf("Sign in with %s --profile %.80q.", command, profile)
	}
	return []rule{
		{tilde != "" && (isNoProfile || isNoRegion || isNone),
			fmt.Sprintf("%s is %q, and nothing expands its ~", tilde, path), "Set it to the full path of the file."},
		{isNoRegion, "no region is set", setRegion},
		{errors.Is(err, bedrocktoken.ErrRegion), text, setRegion},
		{isNoSource, fmt.Sprintf("the source_profile %q does not exist, has no credentials or leads back to itself", noSource.Profile), ""},
		{isNoProfile, fmt.Sprintf("there is no profile %q", noProfile.Profile),
			"Give -profile or AWS_PROFILE the name of one in the shared config files (aws configure list-profiles)."},
		{isFile && text == fmt.Sprint("cannot load the AWS config: ", file) || has("CA bundle"), text,
			fmt.Sprintf("The CA bundle is named by AWS_CA_BUNDLE, which is %q, or by the profile's ca_bundle.", os.Getenv("AWS_CA_BUNDLE"))},

		{has("no MFA code was given"), "no MFA code was given", "Run it in a terminal and type the code."},
		{errors.As(err, new(config.AssumeRoleTokenProviderNotSetError)), "the profile's role wants an MFA code, which cannot be asked for here",
			"Use aws login, or keys from aws configure export-credentials."},
		{isDenied && (has("save token: ") || has("unable to cache refreshed SSO token")), fmt.Sprint("the renewed sign-in cannot be saved: ", file),
			"Make the directory writable, or use keys from aws configure export-credentials."},
		{isDenied, text, "Let this user read the file."},
		{source == "SSO" && refused, text, signIn("aws sso login") + " The profile needs the sso_account_id and sso_role_name of a role that is yours."},
		{source == "SSO OIDC" && refused || has("cached SSO token") || has("SSO session has expired"), text, signIn("aws sso login")},
		{source == "Signin" && refused || has("login token") || has("login session"), text, signIn("aws login")},

		{source == ec2 && oneKey, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "Set the other one too, or name a profile with -profile."},
		{isNone && errors.Is(err, context.DeadlineExceeded), "no AWS credentials were found, and the EC2 metadata service gave none in time", setKeys},
		{isNone, "no AWS credentials were found", setKeys},
		{source == ec2, text, setKeys},
		{true, text, ""},
	}
}

// unexpanded returns the variable and the path that only a shell could understand.
func unexpanded() (variable, path string) {
	for _, variable := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		if path := os.Getenv(variable); strings.HasPrefix(path, "~") {
			return variable, path
		}
	}
	return "", ""
}

const (
	container = "the container's credentials endpoint"
	ec2       = "the EC2 metadata service"
)

// sourceOf returns the name of the service that gave no credentials, or "" if err
// is not about a service.
func sourceOf(err error) string {
	var service string
	for operation := new(smithy.OperationError); errors.As(err, &operation); err = operation.Err {
		service = operation.Service() // the innermost: the source of the others
	}
	switch {
	case strings.Contains(err.Error(), "failed to load credentials, "): // as endpointcreds puts it
		return container
	case service == "ec2imds", strings.Contains(err.Error(), "EC2 IMDS"):
		return ec2
	}
	return service
}

// noneFound reports whether the SDK came to the end of its chain in vain: it asked
// EC2, and there was no answer. It tries for 5 seconds, and then says only that
// they are over.
func noneFound(err error, source string) bool {
	var dial *net.OpError
	return source == ec2 && statusOf(err) == 0 && (errors.As(err, &dial) && dial.Op == "dial" ||
		errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "access disabled"))
}

// statusOf returns the status of the answer that err is about, if it is an error's.
func statusOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusMultipleChoices {
		return answer.HTTPStatusCode()
	}
	return 0
}

// cause returns the part of err that a person can act on, and whether the source
// refused and gave a reason.
func cause(err error, source string) (text string, refused bool) {
	var (
		refusal smithy.APIError
		request *url.Error
	)
	text = strings.NewReplacer(
		"bedrocktoken: ", "",
		"failed to refresh cached credentials, ", "",
		"failed to load credentials", container,
	).Replace(err.Error())
	switch status := statusOf(err); {
	case source == "":
		return secret.ReplaceAllString(text, "***"), false
	case errors.As(err, &refusal) && refusal.ErrorCode() != "" && refusal.ErrorCode() != "UnknownError":
		text = strings.TrimSuffix(fmt.Sprintf("%s answered: %s: %s", source, refusal.ErrorCode(), refusal.ErrorMessage()), ": ")
		refused = true
	case status != 0:
		text = fmt.Sprintf("%s answered with status %d %s", source, status, http.StatusText(status))
	case errors.Is(err, context.DeadlineExceeded):
		text = source + " did not answer"
	case errors.As(err, &request):
		text = fmt.Sprintf("%s cannot be reached: %v", source, request.Err)
	}
	if !errors.As(err, new(*fs.PathError)) { // whose path may be that long
		text = secretKey.ReplaceAllString(text, "***")
	}
	return secret.ReplaceAllString(text, "***"), refused
}

var (
	// secret matches what a service may quote of credentials: an access key ID, a
	// bearer token, a field of a secret.
	secret = regexp.MustCompile(`A[KS]IA[0-9A-Z]+|(?:bedrock-api-key-|eyJ)[\w+/=.-]+|` +
		`(?i:secret_?access_?key|session_?token|"token)[\\"']*\s*[:=]\s*[\\"']*[^\s\\"',}]+`)

	// secretKey matches what is as long as a secret key, or longer.
	secretKey = regexp.MustCompile(`[0-9A-Za-z+/=]{40,}`)
)

// oneLine returns at most 400 bytes of s, without line breaks and control characters.
func oneLine(s string) string {
	const limit, more = 400, "..."
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
	if len(s) > limit {
		s = s[:limit-len(more)] + more
	}
	return strings.ToValidUTF8(s, "")
}
