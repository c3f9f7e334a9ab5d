use std::time::Duration;

use guiji_analysis::odd::{Finding, Pattern};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::error::Problem;
use crate::pb;

/// As far as anybody looks back.
const DAYS_MAX: u32 = 366;

#[async_trait]
impl pb::audit_service_server::AuditService for Services {
    async fn list_odd_patterns(
        &self,
        request: Request<pb::ListOddPatternsRequest>,
    ) -> Answer<pb::ListOddPatternsResponse> {
        let mut call = Call::new(&self.core, Method::ListOddPatterns, &request);
        let answer = self.list_odd(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl Services {
    async fn list_odd(
        &self,
        call: &mut Call,
        request: pb::ListOddPatternsRequest,
    ) -> Result<pb::ListOddPatternsResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let days = match u32::try_from(request.days) {
            Ok(0) => 30,
            Ok(days) if days <= DAYS_MAX => days,
            _ => return Err(Problem::field("days", format!("use 1 to {DAYS_MAX}, or 0 for 30"))),
        };
        call.asks(format!("odd patterns of {days} days"));
        let since = self.core.parts.clock.now().minus(Duration::from_secs(86_400) * days);
        let found = move |parts: &ApiParts| Ok((parts.odd)(since)?);
        let findings = self.core.blocking("read the audit", found).await?;
        call.found(findings.len());
        Ok(pb::ListOddPatternsResponse { patterns: findings.iter().map(pattern_to_pb).collect() })
    }
}

fn pattern_to_pb(finding: &Finding) -> pb::OddPattern {
    use pb::OddKind;
    let none = String::new;
    let (kind, plate, case_number) = match &finding.what {
        Pattern::SamePlate { plate, .. } => (OddKind::SamePlate, plate.clone(), none()),
        Pattern::OffShift => (OddKind::OffShift, none(), none()),
        Pattern::NoCase { case_number } => (OddKind::NoCase, none(), case_number.clone()),
        Pattern::CatchAllCase { case_number, .. } => {
            (OddKind::CatchAllCase, none(), case_number.clone())
        }
        Pattern::Refused => (OddKind::Refused, none(), none()),
    };
    pb::OddPattern {
        officer: finding.officer.clone(),
        kind: kind.into(),
        plate,
        case_number,
        call_count: u32::try_from(finding.calls).unwrap_or(u32::MAX),
        first_record: finding.first,
        description: finding.to_string(),
    }
}
