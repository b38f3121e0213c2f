//! Hints for publishing: S3, the Image Management Service, Artifactory.

use std::error::Error;

use reqwest::StatusCode;

use crate::ops::publish::Refusal;
use crate::publish::artifactory;
use crate::publish::ims::{api, artifact, image_files, token};
use crate::publish::s3;

pub(super) fn publish_hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<s3::Error>() {
        return s3_hint(error);
    }
    if let Some(error) = error.downcast_ref::<artifactory::Error>() {
        return artifactory_hint(error).map(Into::into);
    }
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal_hint(refusal);
    }
    let hint = if let Some(error) = error.downcast_ref::<token::Error>() {
        match error {
            token::Error::Refused { .. } => {
                "check the client's id and secret: OAUTH_CLIENT_ID and OAUTH_CLIENT_SECRET, or the files in OAUTH_CONFIG_DIR"
            }
            token::Error::Malformed { .. } => "check `--token-url`",
            token::Error::Http(_) => return None,
        }
    } else if let Some(error) = error.downcast_ref::<api::Error>() {
        match error {
            api::Error::Malformed { .. } => "check `--ims-url`: something else than the service answers there",
            api::Error::Refused { status, .. } if status.is_redirection() => {
                "if the service is there, give that address with `--ims-url`"
            }
            api::Error::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
                "the token was given and is not taken: check that the client (OAUTH_CLIENT_ID) may use the service, and that \
                 `--token-url` belongs to it"
            }
            _ => return None,
        }
    } else if let Some(error) = error.downcast_ref::<image_files::Error>() {
        match error {
            image_files::Error::NoMksquashfs => {
                "install squashfs-tools 4.5 or later, or name a squashfs that is in the image with `--rootfs`"
            }
            image_files::Error::NoFile { .. } => {
                "with `--from`, files are named by their path in the image: `--kernel /boot/vmlinuz-RELEASE`"
            }
            image_files::Error::NoPlatform { .. } => "give `--arch`, or another image",
            _ => return None,
        }
    } else {
        match error.downcast_ref::<artifact::Error>()? {
            artifact::Error::Architecture { .. } => "give `--arch`, or another kernel",
            artifact::Error::NotSquashfs { .. } => {
                "make one with `mksquashfs DIR FILE`, or of a container image with `--from REF`"
            }
            artifact::Error::CutOff { .. } => {
                "bring the file again, or make it anew; where it was copied, the copy was not whole"
            }
            artifact::Error::Changed { .. } => "run the command again when nobody writes to the file",
            _ => return None,
        }
    };
    Some(hint.to_owned())
}

fn refusal_hint(refusal: &Refusal) -> Option<String> {
    let hint = match refusal {
        Refusal::OutsideSet { .. } => "allow files outside it with `--allow-local`",
        Refusal::NotYetFetched(_) => "fetch the set's packages with `haversack kernel fetch`, and name the directory",
        Refusal::SameFile { .. } => "put them into directories of one directory, and name that in place of the set",
        Refusal::NotConfigured { option, variable, .. } => return Some(format!("give {option}, or set {variable}")),
        Refusal::SecretOption { option, variable } => {
            return Some(format!("set {variable}, or name a file with {option}-file"));
        }
        Refusal::NoRootfs => {
            "name it with `--rootfs FILE`; an image that is not to boot is taken with `--allow-no-rootfs`"
        }
        Refusal::NoRepositoryName | Refusal::RepositoryPath { .. } | Refusal::NoFiles(_) | Refusal::Address { .. } => {
            return None;
        }
    };
    Some(hint.to_owned())
}

fn s3_hint(error: &s3::Error) -> Option<String> {
    let (code, status, at) = match error {
        s3::Error::BadName { name, .. } if name.contains('/') => {
            let bucket = name.trim_start_matches("s3:").trim_matches('/').split('/').next().unwrap_or_default();
            return Some(format!("give only the bucket's name, `{bucket}`, with `--s3-bucket` or S3_BUCKET"));
        }
        s3::Error::BadName { .. } => return Some("leave out `--s3-addressing virtual`".to_owned()),
        s3::Error::Redirected { .. } => return Some(ENDPOINT.to_owned()),
        s3::Error::Refused { code, status, at, .. } => (code.as_str(), *status, &**at),
        _ => return None,
    };
    let is_elsewhere = status.is_redirection()
        || matches!(code, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException");
    if is_elsewhere && (at.region.is_some() || at.endpoint.is_some()) {
        let region = at.region.iter().map(|region| format!("`--s3-region {region}`"));
        let endpoint =
            at.endpoint.iter().map(|host| format!("`--s3-endpoint https://{host}` (without the bucket's name)"));
        let options: Vec<String> = region.chain(endpoint).collect();
        return Some(format!("the bucket is elsewhere: give {}", options.join(" and ")));
    }
    let hint = match code {
        "NoSuchBucket" | "InvalidBucketName" => {
            "check `--s3-bucket` or S3_BUCKET; a server that looks for buckets in the host's name wants `--s3-addressing virtual`"
        }
        "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AccessDenied" => {
            "check S3_ACCESS_KEY, S3_SECRET_KEY and, for temporary credentials, S3_SESSION_TOKEN"
        }
        "InvalidToken" | "ExpiredToken" | "InvalidSecurity" => {
            "the token in S3_SESSION_TOKEN or AWS_SESSION_TOKEN is old, or of other keys: take new temporary credentials, or \
             unset it where the keys are permanent"
        }
        "RequestTimeTooSkewed" => "set the clock of this machine",
        "AuthorizationHeaderMalformed" => "give the server's region with `--s3-region`",
        _ if status.is_redirection() => ENDPOINT,
        _ => return None,
    };
    Some(hint.to_owned())
}

fn artifactory_hint(error: &artifactory::Error) -> Option<&'static str> {
    Some(match error {
        artifactory::Error::Unauthorized { is_anonymous: true, .. } => {
            "no login was given: give an access token with `--token-file` or ARTIFACTORY_TOKEN, or an API key with `--api-key-file` or \
             ARTIFACTORY_API_KEY"
        }
        artifactory::Error::Unauthorized { status: StatusCode::FORBIDDEN, .. } => {
            "the login may not do this: give a token that may write there with `--token-file` or ARTIFACTORY_TOKEN"
        }
        artifactory::Error::Unauthorized { .. } => {
            "give an access token that has not expired with `--token-file` or ARTIFACTORY_TOKEN; an API key goes into \
             `--api-key-file` or ARTIFACTORY_API_KEY"
        }
        artifactory::Error::NoRepository { .. } => {
            "check `--url`, which mostly ends in /artifactory, and `--repo`; some servers hide what a login may not see"
        }
        artifactory::Error::Malformed { .. } | artifactory::Error::Unconfirmed { .. } => {
            "check `--url`, which mostly ends in /artifactory: something else may answer there, as a page to log in"
        }
        _ => return None,
    })
}

const ENDPOINT: &str = "give the address of the S3 server itself with `--s3-endpoint`";
