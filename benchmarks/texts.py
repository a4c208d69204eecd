"""Calls whose words the shipped dictionary never saw: scripts and answers of a dozen trades.

A campaign is a script of nodes with fixed captions; campaigns come and go, as they do on the
platform, and every call walks through one of those that run, with answers of its own.
"""

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

Record = dict[str, Any]

_EXAMPLE: Record = json.loads(Path(__file__).parents[1].joinpath("tests/data/callback.json").read_bytes())
_ROBOT, _CUSTOMER = _EXAMPLE["talk_info"][:2]

LIVE_CAMPAIGNS = 24
CALLS_A_NEW_CAMPAIGN = 2000
"""After about so many calls one of the campaigns is over, and another with new words takes its place."""


def _listed(text: str) -> list[str]:
    return text.split("|")


# Trade: companies; what it sells; reasons to call; questions; what customers say; their worries.
_TRADES = {
    "教育": (
        "启明少儿编程|博雅国学馆|新航道外语|优才数学思维|小鹿美术|知行考研",
        "暑期集训班|一对一提分课|试听课|寒假托管|口语小班|研究生冲刺营|围棋启蒙课",
        "看到您给孩子预约过测评|校区这周有家长开放日|秋季班马上要分班了|上次的学情报告已经出来了",
        "孩子开学上几年级|平时是谁接送孩子放学|这次期末哪一科比较薄弱|以前上过类似的课程没有|周六上午还是周日下午有空",
        "在读三年级|数学一直上不去|已经报了别家的班|等他考完试再说|他爸爸管这个事情|住得离校区太远|英语还可以就是作文差",
        "老师是不是本科毕业|不满意能不能退学费|一节课到底多少钱|班里有几个学生",
    ),
    "房产": (
        "锦绣江南营销中心|滨河壹号|万和置业|绿洲国际公馆|城投云境|安居客门店",
        "临河洋房|精装两居|学区三房|沿街底商|地铁口公寓|叠拼别墅|二手满五唯一的房源",
        "项目本周末加推十八套|首付政策刚刚做了调整|您之前来看过样板间|有业主降价急售",
        "您是自住还是考虑投资|目前看的是哪个片区|首付准备在多少以内|家里有几口人一起住|公积金交满半年了吗",
        "刚在隔壁小区定了一套|想要南北通透的|总价超过三百万不考虑|等年底再看|要先把手里的卖掉|电梯房就行楼层别太高",
        "物业费一个月多少|产权是四十年还是七十年|什么时候能交房|学位有没有被占用",
    ),
    "保险": (
        "泰和人寿|平顺财险|众诚保险经纪|康裕养老|华泰续期服务部",
        "百万医疗险|少儿重疾计划|增额终身寿|养老年金|家财险|意外伤害保障",
        "您的保单下个月进入宽限期|有一笔生存金还没有领取|老客户可以免费加保一年|核保结果已经下来了",
        "身份证后四位方便核对一下吗|家里老人有没有买过医疗险|最近两年住过院吗|缴费的银行卡还在用吗|受益人需要变更吗",
        "我有社保了|去年做过甲状腺手术|钱转到卡里了没有|让我儿子跟你说|不想再续了要退保|交了十年了还差几年",
        "犹豫期有多少天|理赔是不是很麻烦|免赔额一万太高了|收益写不写进合同",
    ),
    "汽车": (
        "骏达奥迪四店|长风新能源体验中心|众泰二手车|远航汽车美容|车管家年检代办",
        "首次保养套餐|以旧换新补贴|七座混动版|原厂延保|年检代办|全车镀晶|试驾礼遇",
        "您的爱车行驶已满五千公里|厂家这个月有置换补贴|上次维修想做一个回访|检测报告显示刹车片偏薄",
        "现在公里数大概是多少|车牌号是本地的吗|计划全款还是分期|什么时候方便到店|这台车平时谁在开",
        "车已经卖掉了|刚跑了四万公里|油耗比说明书高好多|我在外地出差|只想换个机油|预算十五万左右落地",
        "工时费另算吗|充满电能跑多远|贴息是几年|事故车你们收不收",
    ),
    "医疗": (
        "仁爱口腔|康宁体检中心|明眸眼科|慈济中医馆|和美妇产|瑞康康复医院",
        "种植牙会诊|肠胃镜套餐|近视手术初筛|三伏贴|产后修复|颈椎理疗|疫苗接种",
        "您预约的复诊是明天上午|体检报告里有一项需要复查|主任下周三来院坐诊|医保额度年底会清零",
        "最近还有没有疼痛|有高血压或者糖尿病史吗|平时吃什么药|是第一次来我们这边吗|需要安排早上空腹的号吗",
        "牙龈老是出血|改到下个礼拜吧|大夫说先观察|我妈腿脚不方便|吃了半个月没什么效果|胃镜想做无痛的",
        "走医保能报多少|要不要住院|是哪位教授看|多久能出结果",
    ),
    "物流": (
        "顺捷速运|安达冷链|中恒国际货代|快马同城配送|德通零担",
        "整车调度|到付件|跨境小包|冷藏运输|上门取件|仓储代发|保价服务",
        "您有一票货卡在分拨中心|收件地址少了门牌号|货已经到站请安排提货|月结账单这边需要核对",
        "货物大概多重|外包装有没有破损|改送到哪个地址|几点之前有人在家|发票抬头开公司还是个人",
        "放在门卫那里|单位下班了没人收|里面是玻璃要轻放|发错型号了我要退|一吨半两个托盘|放丰巢柜就行",
        "超区要加多少钱|丢了照价赔吗|几天能到乌鲁木齐|能不能先验货",
    ),
    "招聘": (
        "聚才人力|蓝领通|众望劳务|优聘网络|宏盛电子厂招聘办",
        "仓库分拣员|夜班质检|电话客服|骑手岗位|普工小时工|数控学徒|店长储备",
        "您投递的简历已经通过初筛|下周一有一场面对面招聘|工厂新开两条产线急缺人手|入职奖励提高到了两千",
        "现在是在职还是离职|能不能接受倒班|期望的薪资是多少|有没有健康证|住宿需要安排吗",
        "我找到工作了|倒班身体吃不消|工资能不能日结|老乡一起去行不行|干过两年叉车|超过四十五岁要不要",
        "包吃住吗|押不押工资|签劳动合同吗|社保从第几个月开始交",
    ),
    "家装": (
        "东易整装|拾光软装|美巢局改|木槿全屋定制|匠心防水",
        "厨卫翻新|免费量房|环保检测|全屋柜体|水电改造|旧房拆旧|智能门锁",
        "您小区有三户正在施工可以参观|设计师把初稿做好了|工地昨天完成了闭水试验|建材节报名今天截止",
        "房子多少个平方|钥匙拿到手了没有|喜欢原木风还是奶油风|打算什么时候开工|有没有做过预算",
        "八十九平米小三房|我们自己找的师傅|老婆嫌报价太贵|只改一个卫生间|等交了房再谈|甲醛超标怎么办",
        "增项怎么算|质保几年|板材是什么牌子|能不能先装后付",
    ),
    "金融": (
        "汇丰源消费金融|信达普惠|农商行信用卡部|恒泰证券|利民小额贷",
        "经营周转额度|账单分期|公积金信用贷|开户佣金优惠|基金定投|抵押置换",
        "您的提额申请已经受理|本期账单还差一部分没有还清|利率从本月起下调|有一张权益券快过期了",
        "营业执照满一年了吗|名下有按揭房没有|大概需要周转多久|还款日改到十五号可以吗|对公流水一个月多少",
        "征信花了估计批不下来|昨天刚还进去|利息太高算了|我要三十万做生意|卡早就注销了|疫情以后一直没缓过来",
        "逾期会不会上征信|提前还有没有违约金|最快多久放款|年化是单利还是复利",
    ),
    "政务": (
        "区社保服务中心|阳光街道办|自来水营业厅|燃气安检队|供电所客服|不动产登记处",
        "医保参保登记|养老认证|入户安检|电费余额提醒|居住证续签|停水通知",
        "您的待遇资格认证即将到期|本周四上午所在片区计划停水|家中燃气表读数异常|申请材料还缺一份",
        "户主是您本人吗|家里几点有人|证件照片传了没有|现在的住址有没有变化|老人可以自己操作手机吗",
        "我在深圳打工回不去|昨天已经去窗口办了|短信看不懂|老母亲九十多了|停到几点钟|材料在我弟弟那里",
        "网上能不能办|要带哪些证件|迟了有没有滞纳金|代办需要委托书吗",
    ),
    "旅游": (
        "山海假期|云端国旅|慢游亲子营|悦途签证|海岛船票中心",
        "云南六日纯玩团|邮轮阳台房|研学夏令营|日本单次签证|温泉自驾套票|银发专列",
        "您收藏的线路降了八百|出发前需要确认房型|签证中心退回了一份材料|台风航班有变动",
        "一共几位大人几个小孩|护照有效期还有多久|从哪个城市出发|饮食上有没有忌口|靠窗的位置需要吗",
        "小孩一米二要不要票|领导不批假|改签到国庆以后|怕晕船|自由行不要购物店|爷爷七十八岁能去吗",
        "定金退不退|机票含不含行李|导游小费怎么算|酒店是不是市中心",
    ),
    "零售": (
        "悦购商城|乡村优品合作社|宠爱之家|青禾母婴|老字号茶行|极光数码",
        "会员积分清零|明前龙井|幼犬驱虫|纸尿裤囤货|以旧换新手机|中秋礼盒|净水器滤芯",
        "您的订单超过四十八小时没有付款|积分月底就要失效|滤芯该更换了|上周的退款已经原路退回",
        "地址还是原来那个吗|宝宝现在几个月了|对价格还有什么顾虑|使用中有没有异响|要不要帮您改成自提",
        "款式跟图片不一样|红色断货就要灰的|早就收到了|优惠券用不了|送人用包装好一点|狗狗对鸡肉过敏",
        "运费谁出|保质期到什么时候|坏了几天之内能换|开不开专票",
    ),
}
_GREETINGS = _listed(
    "喂您好|您好打扰了|哎您好|先生您好|女士下午好|上午好|喂，听得到吧|您好，请问是机主本人吗"
)
_ROLES = _listed("顾问小{}|客服{}号|的小{}|回访专员小{}|助理小{}|主管老{}|值班的小{}")
_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙马朱胡郭何林罗高梁郑谢宋唐许邓"
    "冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢傅钟姜"
)
_GIVEN = (
    "伟芳娜敏静丽强磊洋艳勇军杰娟涛明超霞平刚桂英文辉玲建华"
    "红波鑫宇浩凯悦晨雪梦佳琪子涵欣怡俊博思远诗雅若曦一诺承志"
)
_PLACES = _listed(
    "浙江省温州市|湖北省襄阳市|四川省绵阳市|山东省临沂市|河南省洛阳市|江苏省盐城市|"
    "福建省泉州市|陕西省咸阳市|辽宁省鞍山市|云南省曲靖市|天津市|重庆市|广西桂林市|"
    "甘肃省天水市|河北省保定市|安徽省阜阳市"
)
_LEADS = _listed(
    "好的，|嗯，明白，|没关系，|这样啊，|那行，|理解您的心情，|不好意思，|顺便问一下，|"
    "是这样的，|最后跟您确认一下，||"
)
_ENDS = _listed("可以吗？|您看行不行？|方便说一下吗？|对吧？|您觉得呢？|大概就行。|我这边登记一下。|？|呢？")
_PUSHES = _listed(
    "先给您留一个{}的名额|把{}的资料发到您微信上|{}现在下单能便宜{}百块|"
    "{}我帮您约在{}号|{}的详细方案由专人回电|已经有{}位客户定了{}"
)
_PARTICLES = _listed("嗯|哦|啊|那个|哎呀|对对|就是说|呃|你好你好|行吧|不是|喂|这个嘛|||||")
_COMMON = _listed(
    "我现在开着车呢|晚点再打过来|你说的我没听清|不需要谢谢|可以的|你是机器人吧|"
    "怎么知道我电话的|加微信聊|再考虑考虑|让我想一下|别打了行不行|你把地址发我|"
    "跟家里商量商量|不是我本人|听不懂你说啥|在开会|好好好"
)
_TAILS = _listed("吧|呀|嘛|，你等一下|，反正就这样|，对|呢|，挂了啊|，麻烦了|||||")
_NODES = _listed(
    "开场|核实身份|需求挖掘|方案介绍|价格说明|异议处理|邀约|加微|二次挽留|确认时间|"
    "资格核对|送权益|结束语|答疑|转接"
)
_ENDS_BY = ("对方挂机", "机器人挂机", "坐席挂机", "超时挂断")
_JUMPS = ("肯定", "否定", "中性", "接续", "拒绝", "")
_MARKS = _listed("下周二再联系|已加微信，等通过|客户要求发报价单|约了周六到店|号码是家属的|价格敏感，可跟进")


@dataclass(frozen=True)
class _Node:
    title: str
    caption: str
    voice: str
    code: str


@dataclass(frozen=True)
class _Campaign:
    """One task on the platform: a script, its labels, and who runs it."""

    caption: str
    nodes: list[_Node]
    answers: list[str]
    tags: list[str]
    fixed: Record
    imported: dict[str, list[str]]


def _words(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=length))


def _person(rng: random.Random) -> str:
    return rng.choice(_SURNAMES) + "".join(rng.choices(_GIVEN, k=rng.choice((1, 2, 2))))


def _push(rng: random.Random, goods: list[str]) -> str:
    text = rng.choice(_PUSHES).replace("{}", rng.choice(goods), 1)
    return text.replace("{}", str(rng.randrange(2, 90)))


def _captions(rng: random.Random, trade: str) -> Iterator[str]:
    """What a robot of this trade says: an opening, then questions and offers without end."""
    companies, goods, reasons, questions, _, worries = map(_listed, _TRADES[trade])
    role = rng.choice(_ROLES).format(rng.choice(_SURNAMES))
    who = f"{rng.choice(_GREETINGS)}，我是{rng.choice(companies)}{role}"
    yield f"{who}，{rng.choice(reasons)}，{rng.choice(questions)}？"
    while True:
        lead, end = rng.choice(_LEADS), rng.choice(_ENDS)
        match rng.randrange(4):
            case 0:
                yield f"{lead}{rng.choice(questions)}，{rng.choice(questions)}{end}"
            case 1:
                yield f"{lead}{_push(rng, goods)}，{_push(rng, goods)}，{rng.choice(reasons)}{end}"
            case 2:
                about = f"您问的{rng.choice(worries)}，我们{rng.choice(goods)}都写在合同里"
                yield f"{lead}{about}，{rng.choice(questions)}{end}"
            case _:
                yield f"{lead}{rng.choice(reasons)}，所以{_push(rng, goods)}{end}"


def answer(rng: random.Random, trade: str) -> str:
    """What a customer was heard to say."""
    parts = _TRADES[trade]
    said = rng.choice(rng.choice((_COMMON, _listed(parts[4]), _listed(parts[5]))))
    if rng.random() < 0.3:
        said += rng.choice(("，", "然后", "但是", "")) + rng.choice(_listed(parts[4]))
    if rng.random() < 0.15:
        said += f"{rng.randrange(1, 300)}{rng.choice('万块号平天个')}"
    return rng.choice(_PARTICLES) + said + rng.choice(_TAILS)


def _campaign(rng: random.Random) -> _Campaign:
    trade = rng.choice(list(_TRADES))
    day = f"{datetime(2024, 1, 1) + timedelta(days=rng.randrange(500)):%Y%m%d}"  # noqa: DTZ001
    captions, sounds = _captions(rng, trade), f"/usr/local/freeswitch/sounds/zh/cn/{day}{_words(rng, 3)}"
    nodes = [
        _Node(
            title=f"{number + 1:02d}{rng.choice(_NODES)}{rng.choice(('', '', '1', '2', f'（{trade}）'))}",
            caption=next(captions),
            voice=f"{sounds}/question{day}{rng.randrange(10**6):06d}{_words(rng, 3)}.wav",
            code=f"questions{day}{rng.randrange(10**6):06d}{_words(rng, 5)}",
        )
        for number in range(rng.randrange(18, 40))
    ]
    user, main = _words(rng, 4).lower(), _words(rng, 4).lower()
    goods = _listed(_TRADES[trade][1])
    columns = rng.sample([f"data{number}" for number in range(1, 31)], rng.randrange(5))
    whom = rng.choice(("老客户", "新客", "沉默唤醒", "回访"))
    return _Campaign(
        caption=f"{trade}-{rng.choice(goods)}-{whom}{rng.randrange(1, 60)}期{_words(rng, 3)}",
        nodes=nodes,
        answers=[answer(rng, trade) for _ in range(400)],
        tags=[*rng.sample(goods, 3), *_listed(_TRADES[trade][5])[:3], "有需求", "在忙", "加微信"],
        fixed={
            "user_sn": f"SYSUSER|{rng.getrandbits(128):032x}",
            "user_name": user,
            "parent_sn": main,
            "operator": main,
            "team_name": f"{rng.choice(('电销', '客服', '回访', '运营'))}{rng.randrange(1, 30)}组",
            "project_sn": f"projects|{rng.getrandbits(128):032x}",
            "tts_service_id": rng.randrange(110001, 110060),
            "caller": str(rng.randrange(900001, 900400)),
            "source": str(20250601000000 + rng.randrange(10**6)),
        },
        imported={name: [_push(rng, goods) for _ in range(50)] for name in columns},
    )


def _turns(rng: random.Random, campaign: _Campaign, at: datetime, stem: str) -> tuple[list[Record], int]:
    """A walk through the script: robot and customer in turn, 3 to 30 of them; and its seconds."""
    count = round(rng.triangular(3, 30, 16))
    path = iter([0, *sorted(rng.sample(range(1, len(campaign.nodes)), count // 2))])
    turns, connected, node = [], at, campaign.nodes[next(path)]
    for number in range(1, count + 1):
        if number % 2:
            turn = _ROBOT | {"vocfile": node.voice, "caption": node.caption, "title": node.title}
            turn["labelling"] = node.title if rng.random() < 0.1 else ""
        else:
            folder = f"/mnt/record/{connected:%Y%m%d}/segmental_record/{at:%H%M}"
            voice = f"{folder}/subsection_{node.code}_{stem}_{number}.wav"
            node = campaign.nodes[next(path)]
            turn = _CUSTOMER | _heard(rng, campaign) | {"fenduanluyin": voice}
            at += timedelta(seconds=rng.randrange(2, 11))
        turns.append(
            turn
            | {
                "process_code": node.code,
                "talk_datetime": f"{at:%H:%M:%S}",
                "trigger_process_type": rng.choice(("主干", "主干", "主干", "业务问题")),
                "trigger_process_title": node.title,
            }
        )
    return turns, int((at - connected).total_seconds()) + rng.randrange(1, 6)


def _heard(rng: random.Random, campaign: _Campaign) -> Record:
    said = rng.choice(campaign.answers)
    return {
        "answer": said,
        "score": rng.choice(("", "0", "0", "10", "20")),
        "labelling": rng.choice(campaign.tags) if rng.random() < 0.3 else "",
        "talk_info_sn": f"talk_info_sn|{rng.getrandbits(128):032x}",
        "trigger_word": said[: rng.randrange(2, 8)] if rng.random() < 0.7 else "客户任意回答跳转",
        "trigger_jump_type": rng.choice(_JUMPS),
    }


def varied_records(count: int, seed: int = 1) -> Iterator[Record]:
    """Full platform records, no two alike; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 -- sample data, not secrets
    live = [_campaign(rng) for _ in range(LIVE_CAMPAIGNS)]
    first, began = rng.randrange(10**6, 10**8), datetime(2025, 6, 2, 9, 0, 0)  # noqa: DTZ001 -- the platform's
    for number in range(count):
        if rng.random() < 1 / CALLS_A_NEW_CAMPAIGN:
            live[rng.randrange(LIVE_CAMPAIGNS)] = _campaign(rng)
        record = _EXAMPLE | {"id": first + number}
        yield record | _call(rng, rng.choice(live), began + timedelta(seconds=number * 7 // 10))


def _call(rng: random.Random, campaign: _Campaign, started: datetime) -> Record:
    name, phone = str(uuid.UUID(int=rng.getrandbits(128), version=4)), f"1{rng.randrange(3 * 10**9, 10**10)}"
    connected = started + timedelta(seconds=rng.randrange(4, 30))
    who = f"{campaign.fixed['parent_sn']}_{campaign.fixed['user_name']}"
    stem = f"{connected:%Y%m%d%H%M%S}_{who}_{name}_{phone[-4:]}"
    turns, seconds = _turns(rng, campaign, connected, stem)
    hung_up = connected + timedelta(seconds=seconds)
    created = str(hung_up + timedelta(seconds=2))
    agent = _person(rng) if rng.random() < 0.15 else ""
    tags = dict.fromkeys(turn["labelling"] for turn in turns if turn["labelling"])
    if agent:
        tags[f"A转人工;转人工时间:{hung_up}"] = None
    task = f"dial_task_main_sn|{campaign.fixed['project_sn'][-32:]}"
    return (
        campaign.fixed
        | {name: rng.choice(texts) for name, texts in campaign.imported.items()}
        | {
            "sn": f"account|{rng.getrandbits(128):032x}",
            "created_at": created,
            "updated_at": created,
            "name": _person(rng) if rng.random() < 0.6 else "",
            "phone": phone,
            "unit": _words(rng, 6) if rng.random() < 0.1 else "",
            "project_caption": campaign.caption,
            "connected_at": str(connected),
            "disconnected_at": str(hung_up),
            "talktimes": seconds,
            "endreason": rng.choice(_ENDS_BY),
            "recordfile": f"/mnt/record/{connected:%Y%m%d/%H%M}/{stem}.wav",
            "talk_info": turns,
            "labelling": "".join(f";{tag}" for tag in tags),
            "base_info": f"{name}out",
            "score": rng.randrange(0, 101, 5),
            "asks_count": rng.randrange(6),
            "status": rng.choice("ABCDEF"),
            "cdr_sn": task,
            "dial_task_main_sn": task,
            "return_visit": rng.choice("01"),
            "mark": rng.choice(_MARKS) if rng.random() < 0.1 else "",
            "agent_sn": f"agent|{rng.getrandbits(64):016x}" if agent else "",
            "agent_name": agent,
            "is_transfertoagent": int(bool(agent)),
            "transfer_type": 3 if agent else 0,
            "status_manual": rng.choice("ABC") if rng.random() < 0.1 else None,
            "dynamic_labelling": f"{rng.randrange(1, 90)}万;" if rng.random() < 0.3 else "",
            "hangup_serial_number": f"{turns[-1]['trigger_process_title']}#{rng.randrange(1, 9)}",
            "area_code": rng.choice(_PLACES),
            "started_at": str(started),
            "last_reply": next((turn["answer"] for turn in reversed(turns) if turn["answer"]), ""),
            "charging_minute": seconds // 60 + 1,
            "ext1": str(seconds),
            "rec_sex": rng.choice("012"),
            "uuid": name,
        }
    )


def spaced(record: Record) -> bytes:
    """As the platform's example is written: UTF-8, with a space after colon and comma."""
    return json.dumps(record, ensure_ascii=False).encode()


def compact(record: Record) -> bytes:
    """As JavaScript and Go write."""
    return msgspec.json.encode(record)


def escaped(record: Record) -> bytes:
    r"""As PHP writes unless told otherwise: `您`, and `\/`."""
    return json.dumps(record, separators=(",", ":")).replace("/", "\\/").encode()


def varied_bodies(count: int, seed: int = 1) -> list[bytes]:
    """Callbacks of `varied_records`."""
    return [spaced(record) for record in varied_records(count, seed)]
