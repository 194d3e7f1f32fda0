// Package explain words the errors of package bedrocktoken for people who run the
// commands.
package explain

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken"
)

// Error returns a line that says what was wrong and, where that is known, a second
// one that says what to do, for somebody who starts a command. Both are bounded and
// show no secrets. The profile is the one that the command was given, or empty.
func Error(err error, profile string) string { return Running("", err, profile) }

// Running is [Error] for a command that goes on running: it gets other flags and
// another environment only when it is restarted.
func Running(command string, err error, profile string) string {
	says, advice := explain(err, cmp.Or(profile, os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE")), command)
	return strings.TrimSuffix(OneLine(secret.ReplaceAllString(says, "***"))+"\n"+OneLine(advice), "\n")
}

// explain returns what was wrong, and what to do about it, which may be empty. The
// first rule that applies counts.
func explain(err error, profile, command string) (says, advice string) {
	var (
		noSource  config.SharedConfigAssumeRoleError
		noProfile config.SharedConfigProfileNotExistError
		file      *fs.PathError

		source    = sourceOf(err)
		text      = cause(err, source)
		has       = func(part string) bool { return strings.Contains(text, part) }
		missing   = errors.As(err, &noProfile)
		unset     = errors.Is(err, bedrocktoken.ErrRegion) && !has(`"`) // it quotes one that is wrong
		none      = strings.Contains(err.Error(), "no AWS credentials were found")
		outage    = errors.Is(err, bedrocktoken.ErrOutage)
		answered  = statusOf(err) != 0 || errors.As(err, new(smithy.APIError))
		untrusted = errors.As(err, new(*tls.CertificateVerificationError))
		isSource  = errors.As(err, &noSource)
		oneKey    = (os.Getenv("AWS_ACCESS_KEY_ID") == "") != (os.Getenv("AWS_SECRET_ACCESS_KEY") == "")
		denied    = errors.As(err, &file) && (errors.Is(err, fs.ErrPermission) || has("read-only file system"))

		export = fmt.Sprintf(`run eval "$(aws configure export-credentials --profile %.80q --format env)" and start again without -profile`, cmp.Or(profile, "default"))

		restart, whose string
		keys           = "Sign in with aws login or aws sso login, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with -profile."
	)
	if command != "" {
		restart = ", and restart " + command + " if they are in its environment"
		keys = "Sign in with aws login or aws sso login, or write keys into the shared credentials file; " +
			"or restart " + command + " with -profile or with keys in its environment."
	}
	switch {
	case profile == "":
	case strings.Contains(err.Error(), "AssumeRole"): // it is the role's source that lacks a sign-in
		whose = fmt.Sprintf(", for the source_profile of %.80q", profile)
	default:
		whose = fmt.Sprintf(" --profile %.80q", profile)
	}
	if source != "" && file == nil { // whose path may be as long as a secret key
		text = Hide(text)
	}

	for _, rule := range []struct {
		seen         bool
		says, advice string
	}{
		{unset, "no region is set", "Give -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."},
		{errors.Is(err, bedrocktoken.ErrRegion), text, "Give the name of a region, such as us-east-1. It comes from -region, AWS_REGION, AWS_DEFAULT_REGION or the profile."},
		{errors.Is(err, bedrocktoken.ErrExpiry), text, "Give -expiry a time such as 30m or 12h."},
		{missing && isSource, fmt.Sprintf("there is no profile %q, which is to be a source_profile", noProfile.Profile), "Correct the source_profile in the shared config files."},
		{missing, fmt.Sprintf("there is no profile %q", noProfile.Profile), "Give -profile or AWS_PROFILE the name of one in the shared config files (aws configure list-profiles). In the config file its section is [profile NAME]."},
		{isSource, fmt.Sprintf("the source_profile %q leads back to itself, has no credentials, or signs in with aws login, which the AWS SDK cannot use for a role", noSource.Profile),
			fmt.Sprintf("After aws login, name a source_profile that has credential_process = aws configure export-credentials --profile %.80q --format process.", noSource.Profile)},
		{errors.As(err, new(config.AssumeRoleTokenProviderNotSetError)), "the profile's role wants an MFA code, which cannot be asked for here", "Use aws login, or " + export + "."},
		{has("cannot load the AWS config: open ") || has("cannot load the AWS config: read ") || has("CA bundle"), text, fmt.Sprintf("The CA bundle is named by AWS_CA_BUNDLE, which is %q, or by the profile's ca_bundle.", os.Getenv("AWS_CA_BUNDLE"))},
		{has("cannot load the AWS config: "), text, "Correct it in the environment or in the shared config files."},

		{none && oneKey, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "Set the other one too" + restart + "."},
		{none && answered, "no AWS credentials were found: " + text, keys},
		{none, "no AWS credentials were found", keys},
		{has("has quotes around it"), text, "Set it again to the value itself, without the quotes" + restart + "."},
		{has("seem to be swapped"), text, "Swap their values" + restart + "."},
		{has("access key") || has("the session token "), text, "Set all values of the same credentials again, with a session token if the access key ID begins with ASIA" + restart + "."},
		{has("AWS_CREDENTIAL_EXPIRATION"), text, "Set it to the end of the keys in the environment, or unset it" + restart + "."},
		{has("no MFA code was given"), "no MFA code was given", "Run it in a terminal and type the code."},

		{untrusted, text, "If a proxy on the way has a certificate authority of its own, name its file in AWS_CA_BUNDLE or the profile's ca_bundle."},
		{outage && answered, text, "Try again later."},
		{outage, text, "Check the network and HTTPS_PROXY, or try again later."},
		{has("credentials expired"), text, "Get new ones, and a new AWS_CREDENTIAL_EXPIRATION if that is set" + restart + "."},
		{denied, text, "Let this user read and write the file and its directory, or " + export + "."},
		{has(" answered with status ") && source != container && source != ec2, text, "AWS gives a reason, so a proxy on the way answered: let it pass requests to AWS."},
		{source == "SSO" && answered && !has("UnauthorizedException"), text, "Give the profile the sso_account_id and sso_role_name of a role that is yours."},
		{source == "SSO" || source == "SSO OIDC" || has("cached SSO token") || has("SSO session has expired"), text, "Sign in with aws sso login" + whose + "."},
		{source == "Signin" || has("login token") || has("login session"), text, "Sign in with aws login" + whose + "."},
		{has("MultiFactorAuthentication"), text, "Try again with a new code."},
		{source == "STS" || has("jwt"), text, "Check the role's ARN and trust policy, and the keys or the web identity token that ask for it."},
		{source == container, text, "Check the role of the task or the pod."},
		{source == ec2, text, keys},
		{has("credential_process: "), text, "Run the profile's credential_process by hand to see why."},
	} {
		if rule.seen {
			return rule.says, rule.advice
		}
	}
	return text, ""
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

// statusOf returns the status of the answer that err is about, if it is an error's.
func statusOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusMultipleChoices {
		return answer.HTTPStatusCode()
	}
	return 0
}

// cause returns the part of err that a person can act on.
func cause(err error, source string) string {
	var (
		refusal smithy.APIError
		request *url.Error
	)
	switch status := statusOf(err); {
	case source == "":
	case errors.As(err, &refusal) && refusal.ErrorCode() != "" && refusal.ErrorCode() != "UnknownError":
		return strings.TrimSuffix(fmt.Sprintf("%s answered: %s: %s", source, refusal.ErrorCode(), refusal.ErrorMessage()), ": ")
	case status != 0:
		return fmt.Sprintf("%s answered with status %d %s", source, status, http.StatusText(status))
	case errors.Is(err, context.DeadlineExceeded):
		return source + " did not answer"
	case errors.As(err, &request):
		return fmt.Sprintf("%s cannot be reached: %v", source, request.Err)
	}
	return strings.NewReplacer(
		"bedrocktoken: ", "",
		"failed to refresh cached credentials, ", "",
		"failed to load credentials", container,
	).Replace(err.Error())
}

var (
	// secret matches a bearer token, and a field of a secret.
	secret = regexp.MustCompile(`bedrock-api-key-[^\s"'<>]+|ABSK[\w+/=]+|eyJ[\w+/=.-]+|` +
		`(?i:secret_?access_?key|(?:session|security)[_-]?token|"token)[\\"']*\s*[:=]\s*[\\"']*[^\s\\"',}&]+`)

	// secretKey matches what is as long as a secret key, or longer.
	secretKey = regexp.MustCompile(`[0-9A-Za-z+/=]{40,}`)
)

// Hide returns what a service said without the secrets that it may quote.
func Hide(s string) string {
	return secretKey.ReplaceAllString(secret.ReplaceAllString(s, "***"), "***")
}

// OneLine returns at most 400 bytes of s, without line breaks and control characters.
func OneLine(s string) string {
	const limit, more = 400, "..."
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
	if len(s) > limit {
		s = s[:limit-len(more)] + more
	}
	return strings.ToValidUTF8(s, "")
}
